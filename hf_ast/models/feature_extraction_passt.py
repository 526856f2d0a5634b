"""Feature extractor of PaSST: waveforms in, normalised log-mel spectrograms out."""

import math
from typing import Any

import torch

from .feature_extraction_checks import LONGEST_FFT, as_count, as_finite
from .feature_extraction_common import SpectrogramFeatureExtractor
from .modules_passt_mel import LOG_OFFSET, MEAN, STD, PaSSTLogMel, min_samples


class PaSSTFeatureExtractor(SpectrogramFeatureExtractor):
    """The official log-mel spectrogram (models/preprocess.py of PaSST) in eval mode; for training see `PaSSTMel`.

    The models take clips of any length up to a maximum, so a call pads to the longest clip of the batch by default.

    Args:
        sampling_rate: Rate that the waveforms must have, in Hz.
        num_mel_bins: Mel bins, M.
        max_length: Frames that clips are cut to; 1000 of 10 ms each are the window of the 10 s models.
        n_fft, window_length, hop_length: In samples.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale.
        mean, std: Features become (x - mean) / (2 std), by default (x + 4.5) / 5.
        do_normalize: Whether to normalise.
        padding_value: Value of padded frames in the result; that of silence if None.
        return_attention_mask: Whether to return the frame mask even with `padding="max_length"`.
        min_length: Frames of a patch of the model, to which a shorter clip is padded.
    """

    _auto_class = "AutoFeatureExtractor"
    front_end_class = PaSSTLogMel
    default_padding = "longest"
    padding_level = math.log(LOG_OFFSET)

    def __init__(
        self,
        sampling_rate: int = 32000,
        num_mel_bins: int = 128,
        max_length: int = 1000,
        n_fft: int = 1024,
        window_length: int = 800,
        hop_length: int = 320,
        low_frequency_hz: float = 0.0,
        high_frequency_hz: float = 15000.0,
        mean: float = MEAN,
        std: float = STD,
        do_normalize: bool = True,
        padding_value: float | None = None,
        return_attention_mask: bool = False,
        min_length: int = 16,
        **kwargs: Any,
    ):
        super().__init__(
            sampling_rate,
            num_mel_bins,
            max_length,
            mean,
            std,
            do_normalize,
            padding_value,
            return_attention_mask,
            min_length,
            **kwargs,
        )
        self.n_fft = n_fft
        self.window_length = window_length
        self.hop_length = hop_length
        self.low_frequency_hz = low_frequency_hz
        self.high_frequency_hz = high_frequency_hz
        self._check_settings()
        self._front_end_on(torch.device("cpu"))  # its own checks, before the first call

    def _check_settings(self) -> None:
        super()._check_settings()
        for name in ("n_fft", "window_length", "hop_length"):
            setattr(self, name, as_count(name, getattr(self, name), maximum=LONGEST_FFT))
        for name in ("low_frequency_hz", "high_frequency_hz"):
            setattr(self, name, as_finite(name, getattr(self, name)))

    def num_frames(self, num_samples: int) -> int:
        """Frames of a clip of that many samples: one every hop, centred on it."""
        return (num_samples - 1) // self.hop_length + 1

    def num_samples(self, num_frames: int) -> int:
        """Samples of the longest clip that has that many frames."""
        return num_frames * self.hop_length

    @property
    def first_frame_s(self) -> float:
        """Centre of the first frame of a clip, in seconds: its start, around which the clip is reflected."""
        return 0.0

    @property
    def num_edge_frames(self) -> int:
        """Frames whose window reaches beyond the end of a clip, where the waveform is reflected."""
        return math.ceil(self.window_length / 2 / self.hop_length)

    @property
    def min_samples(self) -> int:
        """Samples of the shortest clip that can be reflected at its ends; a shorter one gets zeros behind it."""
        return min_samples(self.n_fft)

    def _front_end_settings(self) -> dict[str, Any]:
        return {
            "sampling_rate": self.sampling_rate,
            "num_mel_bins": self.num_mel_bins,
            "n_fft": self.n_fft,
            "window_length": self.window_length,
            "hop_length": self.hop_length,
            "low_frequency_hz": self.low_frequency_hz,
            "high_frequency_hz": self.high_frequency_hz,
        }


__all__ = ["PaSSTFeatureExtractor"]
