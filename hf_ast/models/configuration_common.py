"""The part that the configs of all families share."""

import math
import os
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils.versions import require_version

from hf_ast.remote_code import generated_code

from .configuration_native_common import NATIVE_MODEL_TYPE, native_settings, read_labels
from .modules_classification import PROBLEM_TYPES
from .modules_embeddings import PATCH_EMBEDDINGS
from .modules_encoder import ACTIVATIONS
from .modules_frames import CLIP_HEADS
from .modules_pooling import POOLINGS
from .modules_positions import POSITION_CROPS, POSITION_KINDS, POSITION_OVERFLOWS, grid_shape, position_grid

# Fields that `from_pretrained` may change on a trained model: they size the position table
GEOMETRY_FIELDS = ("num_mel_bins", "max_length", "frequency_stride", "time_stride")
COUNTS = (*GEOMETRY_FIELDS, "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
SMALLEST, LARGEST = 1e-12, 1e3  # beyond these, float32 would overflow or divide by zero
PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")
POSITIVE = ("initializer_range", "layer_norm_eps", "head_layer_norm_eps", "frame_shift_s")
# Far more than any of these models is used with: 2.4 hours at AST's strides
MAX_PATCHES = 2**20
# The largest released model has 10^8. A config.json from elsewhere must not fill the memory, or build layers for hours
MAX_PARAMETERS = 10**10
MAX_LAYERS = 1000
MAX_LABELS = 10**6
# The sizes of DeiT, which the official models have
SIZES = {
    "tiny": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}


@strict
class SpectrogramConfig(PreTrainedConfig):
    """Fields of every spectrogram transformer; the defaults are the base size of the papers.

    Args:
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, hidden_act, qkv_bias: The encoder.
        hidden_dropout_prob, attention_probs_dropout_prob, drop_path_rate: Regularisation in training mode.
        initializer_range: Standard deviation of new weights.
        layer_norm_eps: Epsilon of the norms in the encoder (timm: 1e-6).
        head_layer_norm_eps: Epsilon of the norm in the classification head (torch's default: 1e-5).
        patch_size: Height and width of a patch (mel bins, frames); one number for a square.
        frequency_stride, time_stride: Distance between patches, in mel bins and frames.
        max_length: Frames that the position table covers.
        num_mel_bins: Height of the spectrogram.
        pooling: "prefix" (mean of cls and distillation token), "cls", or "mean" (of the real patch tokens).
        use_distillation_token: Whether there is a second prefix token.
        position_crop: Part of the position table for clips shorter than `max_length`: "start", "center" (the official
            fine-tuning cut of AST, per clip), or "random" (in training, like the official PaSST code; else "start").
        position_overflow: For longer clips: "error", "interpolate" the table, or "crop" the clip.
        position_table: "joint" (one table for the patch grid, AST), "ssast" (the same, resized by SSAST's rule), or
            "factorised" (one for rows and one for columns, PaSST).
        time_patchout, frequency_patchout, unstructured_patchout: Columns, rows and single patches to drop at random in
            training mode.
        patchout_per_clip: Whether to draw them for each clip; the official code draws once for the whole batch.
        patch_embedding: "linear" (one projection per patch), or "conv_stem" (fPaSST).
        frame_shift_s: Seconds from one frame of the spectrogram to the next, as the feature extractor makes them.
        num_cells: Cells of time into which `...ForAudioFrameClassification` divides every clip, however long it is
            (fPaSST); one per column of the patch grid if None.
        clip_head: How `...ForAudioFrameClassification` labels whole clips, too: "none", "linear" (the head of
            `...ForAudioClassification`), or "attention" (the attention pooling of the official fPaSST code).
        clip_labels: Names of the classes of whole clips; those in `id2label` if None.
        clip_loss_weight: Weight of the loss on whole clips, beside that on cells.
        event_thresholds: Score above which there is an event of each class in `id2label`, in its order, as chosen on
            validation recordings; 0.5 for all if None.
        use_head_norm: Whether classification heads begin with a layer norm.
        token_merging: Share of the patch tokens that each layer merges with similar ones in eval mode, at most 0.5:
            faster, at some cost in accuracy. The clips of a batch must then have equal lengths. 0 merges nothing.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    head_layer_norm_eps: float = 1e-5
    qkv_bias: bool = True
    patch_size: int | list[int] | tuple[int, ...] = (16, 16)
    frequency_stride: int = 10
    time_stride: int = 10
    max_length: int = 1024
    num_mel_bins: int = 128
    pooling: str = "prefix"
    use_distillation_token: bool = True
    position_crop: str = "start"
    position_overflow: str = "error"
    position_table: str = "joint"
    time_patchout: int = 0
    frequency_patchout: int = 0
    unstructured_patchout: int = 0
    patchout_per_clip: bool = False
    patch_embedding: str = "linear"
    frame_shift_s: float = 0.01
    num_cells: int | None = None
    clip_head: str = "linear"
    clip_labels: list[str] | None = None
    clip_loss_weight: float | int = 1.0
    event_thresholds: list[float] | None = None
    use_head_norm: bool = True
    token_merging: float | int = 0.0

    # Whether a config.json of transformers' own AST is read as one of this family
    reads_native: ClassVar[bool] = False

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a config.json: one of ours, or one of transformers' own AST (`native_settings`); see `read_labels`."""
        values, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        values = read_labels(values, pretrained_model_name_or_path, kwargs)
        if cls.reads_native and values.get("model_type") == NATIVE_MODEL_TYPE:
            # Before, some layers would keep their random weights, without an error
            require_version("transformers>=5.9", "It is needed to open checkpoints of transformers' own AST; upgrade.")
            values = native_settings(values, pretrained_model_name_or_path, unused)
        return values, unused

    def __post_init__(self, **kwargs: Any) -> None:
        num_labels = kwargs.get("num_labels", 1)  # not a field, so its type and value are checked here
        if num_labels is not None and (type(num_labels) is not int or not 1 <= num_labels <= MAX_LABELS):
            raise ValueError(f"num_labels={num_labels!r} must be a positive whole number, at most {MAX_LABELS}.")
        if num_labels is None:
            kwargs.pop("num_labels")
        names: Any = self.id2label
        if names is not None and not _are_labels(names):
            raise ValueError(f"id2label={names!r:.200} must have a name for each of the numbers 0, 1, 2, ...")
        size = self.patch_size
        self.patch_size = list(size) if isinstance(size, list | tuple) else [size, size]
        super().__post_init__(**kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save config.json, and the code of the config class."""
        with generated_code(type(self)):
            super().save_pretrained(save_directory, *args, **kwargs)

    @property
    def patch_sides(self) -> tuple[int, int]:
        """Height and width of a patch (mel bins, frames)."""
        return as_pair(self.patch_size)

    @property
    def min_frames(self) -> int:
        """Frames of the shortest input: those of a patch."""
        return self.patch_sides[1]

    @property
    def strides(self) -> tuple[int, int]:
        """Distance between patches (mel bins, frames)."""
        return self.frequency_stride, self.time_stride

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patch grid of a clip of `max_length` frames."""
        return grid_shape(self.num_mel_bins, self.max_length, self.patch_sides, self.strides)

    @property
    def cell_s(self) -> float:
        """Seconds from one cell of `...ForAudioFrameClassification` to the next, in a clip of `max_length` frames."""
        if self.num_cells is not None:
            return self.max_length * self.frame_shift_s / self.num_cells
        return self.time_stride * self.frame_shift_s

    def first_centre_s(self, first_frame_s: float) -> float:
        """Centre of the first cell in seconds; `first_frame_s` is that of the first frame (see the extractor)."""
        return first_frame_s + (self.patch_sides[1] - 1) / 2 * self.frame_shift_s

    def num_cells_of(self, num_frames: int) -> int:
        """Cells of a clip of that many frames, K."""
        if self.num_cells is not None:
            return self.num_cells
        columns = grid_shape(self.num_mel_bins, max(num_frames, self.patch_sides[1]), self.patch_sides, self.strides)[
            1
        ]
        return min(columns, self.position_grid[1]) if self.position_overflow == "crop" else columns

    @property
    def position_grid(self) -> tuple[int, int]:
        """Rows and columns of the position table."""
        return position_grid(self.position_table, self.num_mel_bins, self.max_length, self.patch_sides, self.strides)

    def validate_choices(self) -> None:
        """Check that fields with a fixed set of values hold one of them."""
        choices = {
            "hidden_act": tuple(ACTIVATIONS),
            "patch_embedding": PATCH_EMBEDDINGS,
            "clip_head": CLIP_HEADS,
            "pooling": POOLINGS,
            "position_crop": POSITION_CROPS,
            "position_overflow": POSITION_OVERFLOWS,
            "position_table": POSITION_KINDS,
            "problem_type": (None, *PROBLEM_TYPES),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {allowed}.")

    def validate_numbers(self) -> None:
        """Check that counts are positive, probabilities below 1, and other numbers in their ranges."""
        for name in COUNTS:
            if not 1 <= getattr(self, name) < 2**31:
                raise ValueError(f"{name}={getattr(self, name)} must be positive, and less than 2^31.")
        for name in POSITIVE:
            if not SMALLEST <= getattr(self, name) <= LARGEST:
                raise ValueError(
                    f"{name}={getattr(self, name)} must be a positive, finite number from {SMALLEST:g} to {LARGEST:g}."
                )
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1).")
        if self.num_cells is not None and not 1 <= self.num_cells <= MAX_PATCHES:
            raise ValueError(f"num_cells={self.num_cells} must be from 1 to {MAX_PATCHES}, or None.")
        if not 0 <= self.clip_loss_weight <= LARGEST:
            raise ValueError(f"clip_loss_weight={self.clip_loss_weight} must be from 0 to {LARGEST:g}.")
        if not 0 <= self.token_merging <= 0.5:
            raise ValueError(f"token_merging={self.token_merging} must be in [0, 0.5]; 0 merges nothing.")
        for name in ("time_patchout", "frequency_patchout", "unstructured_patchout"):
            # Whether something is left depends on the clips, and is checked in training
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative; 0 drops nothing.")

    def validate_thresholds(self) -> None:
        """Check that there is a threshold for each class, and that each can be passed."""
        thresholds = self.event_thresholds
        if thresholds is not None and (
            len(thresholds) != self.num_labels or not all(0 < value <= 1 for value in thresholds)
        ):
            raise ValueError(
                f"event_thresholds={thresholds} must have a number greater than 0 and at most 1 for each of the "
                f"{self.num_labels} classes; None stands for 0.5."
            )

    def validate_geometry(self) -> None:
        """Check that a patch fits, that the model is not absurdly large, and that the heads divide the hidden size."""
        self.validate_numbers()  # the checks below divide by some of them
        sizes = {"num_mel_bins": self.num_mel_bins, "max_length": self.max_length}
        for (name, size), patch in zip(sizes.items(), self.patch_sides, strict=True):
            if not 1 <= patch <= size:
                raise ValueError(f"{name}={size} holds no patch of patch_size={self.patch_size} (mel bins, frames).")
        rows, columns = self.grid
        if rows * columns > MAX_PATCHES:
            raise ValueError(
                f"max_length={self.max_length} and num_mel_bins={self.num_mel_bins} make {rows} x {columns} patches, "
                f"but at most {MAX_PATCHES} are allowed; cut recordings into windows."
            )
        block = self.hidden_size * (4 * self.hidden_size + 2 * self.intermediate_size)
        num_parameters = self.num_hidden_layers * block + self.hidden_size * (
            rows * columns + math.prod(self.patch_sides)
        )
        if self.num_hidden_layers > MAX_LAYERS or num_parameters > MAX_PARAMETERS:
            raise ValueError(
                f"hidden_size={self.hidden_size}, intermediate_size={self.intermediate_size}, num_hidden_layers="
                f"{self.num_hidden_layers}, patch_size={self.patch_size}, num_mel_bins={self.num_mel_bins} and "
                f"max_length={self.max_length} make {num_parameters:.3g} parameters, but at most {MAX_PARAMETERS:.0e} "
                f"in {MAX_LAYERS} layers are allowed."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of num_attention_heads={self.num_attention_heads}."
            )


def as_pair(patch_size: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a patch, from one number or the pair of them."""
    if isinstance(patch_size, int):
        return patch_size, patch_size
    if not isinstance(patch_size, list | tuple) or len(patch_size) != 2:
        raise ValueError(f"patch_size={patch_size} must be one number or the pair (mel bins, frames).")
    return patch_size[0], patch_size[1]


def _are_labels(names: Any) -> bool:
    """Whether it maps the numbers 0, 1, 2, ... (strings in JSON) to the names of labels."""
    if not isinstance(names, dict) or not 1 <= len(names) <= MAX_LABELS:
        return False
    numbers = {str(number) for number in range(len(names))}
    return {str(number) for number in names} == numbers and all(isinstance(name, str) for name in names.values())
