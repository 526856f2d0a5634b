"""Batched, Kaldi-compatible log-mel filter bank: the front end of AST and SSAST, in torch only.

It computes the same numbers as `torchaudio.compliance.kaldi.fbank(waveform, window_type="hanning", dither=0)`, which
the official AST and SSAST data loaders call (src/dataloader.py), for whole batches and on any device.
"""

import torch
from torch import Tensor, nn

from .modules_mel_filters import PREEMPHASIS, MelFilterBank, check_waveform, map_segments

FRAME_LENGTH_S = 0.025
FRAME_SHIFT_S = 0.010
# Kaldi's floor under the mel energies: the float32 epsilon, whatever the dtype
LOG_FLOOR = 1.1920928955078125e-07
# 2 MB per intermediate result: a clip of 10 s is one segment, and its intermediate results stay in a CPU's caches
FRAMES_PER_SEGMENT = 1024


def kaldi_fbank(waveform: Tensor, *, sampling_rate: int = 16000, num_mel_bins: int = 128) -> Tensor:
    """Log-mel spectrogram of a batch of equally long waveforms.

    25 ms frames every 10 ms; per frame: mean removed, pre-emphasis 0.97, symmetric Hann window, power
    spectrum, mel filters from 20 Hz to half the sampling rate, natural logarithm. No dither. Each call computes the
    window and the filters; `KaldiFbank` keeps them.

    Args:
        waveform: Samples in [-1, 1], shape (B, S), float32 or float64, on any device; at least one frame long.
        sampling_rate: In Hz.
        num_mel_bins: M.

    Returns:
        Log-mel energies, shape (B, T, M) with T = 1 + (S - frame length) // frame shift.

    Raises:
        ValueError: The waveform is not a (B, S) float tensor, or is shorter than one frame.
    """
    check_waveform(waveform)
    return KaldiFbank(sampling_rate, num_mel_bins, device=waveform.device, dtype=waveform.dtype)(waveform)


class KaldiFbank(nn.Module):
    """`kaldi_fbank` as a module, which keeps its window and filters; for use in front of a model, and for export.

    Move it to the device of the waveforms; where device or dtype differ, each call recomputes window and filters.

    Args:
        sampling_rate: In Hz.
        num_mel_bins: M.
        device, dtype: Those of the window and the filters, and of the waveforms; the dtype is float32 or float64.
    """

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.sampling_rate = sampling_rate
        self.num_mel_bins = num_mel_bins
        frame_length, self.frame_shift, n_fft = frame_geometry(sampling_rate)
        self.filter_bank = MelFilterBank(
            sampling_rate=sampling_rate,
            num_mel_bins=num_mel_bins,
            n_fft=n_fft,
            window_length=frame_length,
            device=device,
            dtype=dtype,
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveforms (B, S) in [-1, 1] -> log-mel spectrograms (B, T, M)."""
        check_waveform(waveform)
        filter_bank = self.filter_bank.matching(waveform)
        frame_length = filter_bank.window_length
        if waveform.shape[1] < frame_length:
            raise ValueError(
                f"waveform has {waveform.shape[1]} samples, less than one frame of {frame_length} samples "
                f"({1000 * FRAME_LENGTH_S:.0f} ms at {self.sampling_rate} Hz); pad it to that length."
            )
        return map_segments(
            lambda segment: _log_mel(segment, filter_bank, self.frame_shift),
            waveform,
            frame_length=frame_length,
            frame_shift=self.frame_shift,
            frames_per_segment=FRAMES_PER_SEGMENT,
        )


def _log_mel(waveform: Tensor, filter_bank: MelFilterBank, frame_shift: int) -> Tensor:
    """Raw samples (B, S) -> log-mel energies (B, T, M)."""
    means = waveform.unfold(1, filter_bank.window_length, frame_shift).mean(-1, keepdim=True)
    # Pre-emphasis needs a sample before each frame, and the FFT needs samples after the window, which is 0 there: any
    # samples will do, and copying the first ones is faster than filling with zeros
    behind = waveform[:, : filter_bank.n_fft - filter_bank.window_length]
    padded = torch.cat((waveform[:, :1], waveform, behind), dim=1)
    # Pre-emphasis before framing runs once per sample; the mean m of a frame then becomes m (1 - 0.97). Written as a
    # difference, which is exact where neighbours are close, it does not round away a small signal on a large mean.
    before = padded[:, :-1]
    emphasised = (padded[:, 1:] - before).add_(before, alpha=1 - PREEMPHASIS)
    frames = torch.sub(emphasised.unfold(1, filter_bank.n_fft, frame_shift), means, alpha=1 - PREEMPHASIS)
    return filter_bank(frames.mul_(filter_bank.window)).clamp_min(LOG_FLOOR).log()


def frame_geometry(sampling_rate: int) -> tuple[int, int, int]:
    """Frame length, frame shift and FFT size, in samples.

    Raises:
        ValueError: The rate is too low for a frame shift of one sample.
    """
    if not sampling_rate * FRAME_SHIFT_S >= 1:
        raise ValueError(
            f"sampling_rate={sampling_rate} Hz leaves no sample between two frames, which are 10 ms apart; give the "
            "rate in Hz, such as 16000."
        )
    frame_length = int(sampling_rate * FRAME_LENGTH_S)
    return frame_length, int(sampling_rate * FRAME_SHIFT_S), 1 << (frame_length - 1).bit_length()


def num_frames(num_samples: int, sampling_rate: int = 16000) -> int:
    """Number of whole frames in `num_samples` samples (Kaldi's `snip_edges`), possibly 0."""
    frame_length, frame_shift, _ = frame_geometry(sampling_rate)
    return max(0, 1 + (num_samples - frame_length) // frame_shift)
