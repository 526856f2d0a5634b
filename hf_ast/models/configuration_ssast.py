"""Config of the Self-Supervised Audio Spectrogram Transformer."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_common import LARGEST, SMALLEST, SpectrogramConfig, as_pair
from .modules_masking import MASK_SAMPLERS
from .modules_objectives import OBJECTIVES_ARGUMENTS


@strict
class SSASTConfig(SpectrogramConfig):
    """SSAST (Gong et al. 2022, https://arxiv.org/abs/2110.09784); see `SpectrogramConfig` for the other fields.

    The two official kinds are `patch_size=(16, 16)`, the default, and `patch_size=(128, 2)` (frame-based). It also
    reads the config.json of ports to transformers' own AST; see `native_settings`.

    Args:
        frequency_stride, time_stride: Distance between patches; by default the patch size, as pretraining requires.
        pooling: "mean" by default, `ft_avgtok` of the official code (pretraining does not train the prefix tokens to
            summarise a clip); "prefix" is `ft_cls`.
        num_mask_patches: Patches to mask per clip in pretraining, of 512 in the paper.
        mask_ratio: Share of a clip's patches to mask, instead of a number; for clips of different lengths.
        mask_clusters: Whether to mask groups of patches; by default, like the official code, unless patches span all
            mel bins.
        mask_sampler: "official", or "uniform" (masks all patches equally often).
        classification_loss_weight, reconstruction_loss_weight: Weights of the two objectives. An objective of weight 0
            has no head.
    """

    model_type = "ssast"
    _auto_class = "AutoConfig"
    reads_native = True
    # 0-dim, so that Trainer cannot gather them as predictions
    keys_to_ignore_at_inference = ["classification_loss", "reconstruction_loss", "accuracy"]

    frequency_stride: int | None = None  # type: ignore[assignment]  # a number after `__post_init__`
    time_stride: int | None = None  # type: ignore[assignment]
    pooling: str = "mean"
    position_table: str = "ssast"
    num_mask_patches: int = 400
    mask_ratio: float | int | None = None
    mask_clusters: bool | None = None
    mask_sampler: str = "official"
    classification_loss_weight: float | int = 1.0
    reconstruction_loss_weight: float | int = 10.0

    def __post_init__(self, **kwargs: Any) -> None:
        height, width = as_pair(self.patch_size)
        self.frequency_stride = height if self.frequency_stride is None else self.frequency_stride
        self.time_stride = width if self.time_stride is None else self.time_stride
        self.mask_clusters = height != self.num_mel_bins if self.mask_clusters is None else self.mask_clusters
        super().__post_init__(**kwargs)

    def objectives_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `MaskedPatchObjectives`, without its sizes."""
        return {name: getattr(self, field) for field, name in OBJECTIVES_ARGUMENTS.items()}

    def validate_masking(self) -> None:
        """Check that something is masked, something stays visible, and at least one objective counts."""
        if self.mask_sampler not in MASK_SAMPLERS:
            raise ValueError(f"mask_sampler={self.mask_sampler!r} is unknown; choose one of {MASK_SAMPLERS}.")
        if self.num_mask_patches < 1:
            raise ValueError(f"num_mask_patches={self.num_mask_patches} must be positive.")
        if self.mask_ratio is not None and not 0 < self.mask_ratio < 1:
            raise ValueError(
                f"mask_ratio={self.mask_ratio} must be between 0 and 1, or None to mask num_mask_patches."
            )
        weights = (self.classification_loss_weight, self.reconstruction_loss_weight)
        if not (all(0 <= weight <= LARGEST for weight in weights) and max(weights) >= SMALLEST):
            raise ValueError(
                f"classification_loss_weight and reconstruction_loss_weight are {weights}, but none may be negative "
                f"or larger than {LARGEST:g}, and one must be positive."
            )


__all__ = ["SSASTConfig"]
