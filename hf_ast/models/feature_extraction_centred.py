"""What the feature extractors of PaSST and fPaSST share: frames centred on multiples of the hop length."""

import math
from typing import Any

import torch

from .feature_extraction_checks import LONGEST_FFT, as_count, as_finite
from .feature_extraction_common import SpectrogramFeatureExtractor
from .modules_centred_mel import min_samples


class CentredFeatureExtractor(SpectrogramFeatureExtractor):
    """A feature extractor whose first frame is centred on the first sample; a family adds its defaults.

    Args:
        n_fft, window_length, hop_length: In samples.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale.
        settings: The arguments of `SpectrogramFeatureExtractor`.
    """

    def __init__(
        self,
        *,
        n_fft: int,
        window_length: int,
        hop_length: int,
        low_frequency_hz: float,
        high_frequency_hz: float,
        **settings: Any,
    ):
        super().__init__(**settings)
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
