"""Feature extractor of MAEST: waveforms in, normalised log-mel spectrograms out."""

import math
from typing import Any

import torch

from .feature_extraction_checks import LONGEST_FFT, as_count
from .feature_extraction_common import SpectrogramFeatureExtractor
from .modules_maest_mel import LOG_COMPRESSIONS, MEAN, STD, MAESTLogMel


class MAESTFeatureExtractor(SpectrogramFeatureExtractor):
    """The official log-mel spectrogram of MAEST, which it pads with zeros before it normalises (palonso/MAEST).

    It also opens the files of the official class of the same name, without running their code. The official class
    never uses the fields `padding_value`, `return_attention_mask` and `feature_size` of its file, so they are ignored.

    Args:
        sampling_rate: Rate that the waveforms must have, in Hz.
        num_mel_bins: Mel bins, M.
        max_length: Frames that clips are padded or cut to: 316, 626, 1256 and 1876 for models of 5, 10, 20 and 30 s.
        n_fft: Size of the FFT and of the window, in samples.
        hop_length: Samples between two frames.
        log_compression: "logC" for log10(1 + 10000 x), "log" for the natural logarithm, None for neither.
        mean, std: Statistics of the training data; features become (x - mean) / (2 std).
        do_normalize: Whether to normalise.
        padding_value: Value of padded frames in the result. None, the default, is the official padding: zeros before
            the normalisation, so (0 - mean) / (2 std).
        return_attention_mask: Whether to return the frame mask even with `padding="max_length"`. The official models
            attend to padding.
        min_length: Frames of a patch of the model, to which a shorter clip is padded.
    """

    _auto_class = "AutoFeatureExtractor"
    front_end_class = MAESTLogMel

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_mel_bins: int = 96,
        max_length: int = 1876,
        n_fft: int = 512,
        hop_length: int = 256,
        log_compression: str | None = "logC",
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
        self.hop_length = hop_length
        self.log_compression = log_compression
        self._check_settings()
        self._front_end_on(torch.device("cpu"))  # its own checks, before the first call

    @classmethod
    def get_feature_extractor_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a preprocessor_config.json, ours or one of the official class, which has the same name."""
        values, unused = super().get_feature_extractor_dict(*args, **kwargs)
        if values.get("feature_size") != values.get("num_mel_bins"):  # ours is as wide as a frame, the official one 1
            values = {name: value for name, value in values.items() if name not in UNUSED_OFFICIAL_FIELDS}
        return values, unused

    def _check_settings(self) -> None:
        super()._check_settings()
        for name in ("n_fft", "hop_length"):
            setattr(self, name, as_count(name, getattr(self, name), maximum=LONGEST_FFT))
        if self.n_fft % 2:
            raise ValueError(f"n_fft={self.n_fft} must be even; the released models have 512.")
        if self.log_compression not in LOG_COMPRESSIONS:
            raise ValueError(f"log_compression={self.log_compression!r} is unknown; choose one of {LOG_COMPRESSIONS}.")

    def num_frames(self, num_samples: int) -> int:
        """Frames of a clip of that many samples: one every hop, centred on it, from the start to the end."""
        return num_samples // self.hop_length + 1

    def num_samples(self, num_frames: int) -> int:
        """Samples of the shortest clip that has that many frames; the last one is centred on its end."""
        return max(self.min_samples, (num_frames - 1) * self.hop_length)

    @property
    def frame_shift(self) -> int:
        """Samples between two frames."""
        return self.hop_length

    @property
    def first_frame_s(self) -> float:
        """Centre of the first frame of a clip, in seconds: its start."""
        return 0.0

    @property
    def num_edge_frames(self) -> int:
        """Frames whose window reaches beyond the end of a clip, where zeros follow."""
        return math.ceil(self.n_fft / 2 / self.hop_length)

    @property
    def min_samples(self) -> int:
        """Samples of the shortest clip: one, which is heard in a window of zeros."""
        return 1

    def _samples_of(self, num_frames: int) -> int:
        # The last frames see samples behind them, also where the spectrogram is cut there
        return self.num_samples(num_frames) + self.n_fft // 2

    def _front_end_settings(self) -> dict[str, Any]:
        return {
            "sampling_rate": self.sampling_rate,
            "num_mel_bins": self.num_mel_bins,
            "n_fft": self.n_fft,
            "hop_length": self.hop_length,
            "log_compression": self.log_compression,
        }


UNUSED_OFFICIAL_FIELDS = ("feature_size", "padding_side", "padding_value", "return_attention_mask")

__all__ = ["MAESTFeatureExtractor"]
