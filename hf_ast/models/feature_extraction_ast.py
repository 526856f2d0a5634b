"""Feature extractor of AST and SSAST: waveforms in, normalised log-mel spectrograms out."""

from typing import Any

import torch
from torch import Tensor

from .feature_extraction_checks import front_end_name
from .feature_extraction_common import SpectrogramFeatureExtractor
from .modules_fbank import KaldiFbank, frame_geometry, num_frames

# transformers' own feature extractor, and the fields of its file that it does not use
NATIVE_CLASS = "ASTFeatureExtractor"
UNUSED_NATIVE_FIELDS = (
    "feature_extractor_type", "feature_size", "padding_side", "padding_value", "return_attention_mask",
)  # fmt: skip


class HfASTFeatureExtractor(SpectrogramFeatureExtractor):
    """Kaldi log-mel filter bank with the official centring, padding and normalisation (src/dataloader.py of AST).

    Args:
        sampling_rate: Rate that the waveforms must have, in Hz.
        num_mel_bins: Mel bins, M.
        max_length: Frames (10 ms each) that clips are padded or cut to.
        mean, std: Statistics of the training data; AudioSet's by default. Features become (x - mean) / (2 std).
        do_normalize: Whether to normalise.
        subtract_mean: Whether to centre each waveform first, which the SUPERB front end does not. The frames are
            centred anyway, so that the difference is float noise.
        padding_value: Value of padded frames in the result. None, the default, is the official padding: zeros before
            the normalisation, so (0 - mean) / (2 std).
        return_attention_mask: Whether to return the frame mask even with `padding="max_length"`. The official models
            attend to padding.
        min_length: Frames of a patch of the model, to which a shorter clip is padded: 16, except for SSAST's models on
            frames, which have 2.
    """

    _auto_class = "AutoFeatureExtractor"
    front_end_class = KaldiFbank
    equals = (NATIVE_CLASS,)

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        max_length: int = 1024,
        mean: float = -4.2677393,
        std: float = 4.5689974,
        do_normalize: bool = True,
        subtract_mean: bool = True,
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
        self.subtract_mean = subtract_mean
        self._check_settings()
        self._front_end_on(torch.device("cpu"))  # its own checks, before the first call

    @classmethod
    def get_feature_extractor_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a preprocessor_config.json, ours or one of transformers' own `ASTFeatureExtractor`.

        Of the latter's fields, those are ignored that it never uses itself: it pads at the end, with zeros before the
        normalisation, and returns no mask, whatever its file says.
        """
        values, unused = super().get_feature_extractor_dict(*args, **kwargs)
        if front_end_name(values) in (None, NATIVE_CLASS):  # ours always name their class
            values = {name: value for name, value in values.items() if name not in UNUSED_NATIVE_FIELDS}
        return values, unused

    def num_frames(self, num_samples: int) -> int:
        """Number of whole frames in that many samples; a clip that is shorter than a frame has one."""
        return max(1, num_frames(num_samples, self.sampling_rate))

    def num_samples(self, num_frames: int) -> int:
        """Samples of a clip that has that many frames and ends with a whole one."""
        frame_length, frame_shift, _ = frame_geometry(self.sampling_rate)
        return frame_length + (num_frames - 1) * frame_shift

    @property
    def first_frame_s(self) -> float:
        """Centre of the first frame of a clip, in seconds: half a frame, because frames lie whole in the clip."""
        return self.num_samples(1) / 2 / self.sampling_rate

    def _prepared(self, clip: Tensor) -> Tensor:
        return clip - clip.mean(-1, keepdim=True) if self.subtract_mean else clip

    def _front_end_settings(self) -> dict[str, Any]:
        return {"sampling_rate": self.sampling_rate, "num_mel_bins": self.num_mel_bins}


__all__ = ["HfASTFeatureExtractor"]
