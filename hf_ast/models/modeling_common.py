"""The part that the transformers models of all families share: loading, saving, and the forward pass.

A family adds its config, its position table and its names (see `modeling_ast.py`).
"""

import copy
import importlib
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.masking_utils import create_bidirectional_mask, sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from hf_ast.remote_code import generated_code

from .configuration_common import GEOMETRY_FIELDS, SpectrogramConfig
from .modules_classification import ClassificationHead, classification_loss, infer_problem_type
from .modules_encoder import EncoderLayer, SelfAttention, eager_attention, per_head_attention
from .modules_frames import build_heads, frame_logits, frame_loss
from .modules_transformer import ARGUMENTS, SpectrogramTransformer, cells_of, encode, initialize_weights

HUB_ARGUMENTS = (
    "cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token",
)  # fmt: skip

# `attn_implementation="per_head"`, of all families
AttentionInterface.register("per_head", per_head_attention)
AttentionMaskInterface.register("per_head", sdpa_mask)


class SpectrogramLayer(GradientCheckpointingLayer, EncoderLayer):
    """An encoder layer with gradient checkpointing."""


class SpectrogramPreTrainedModel(PreTrainedModel):
    """Base class of all models: initialisation, loading with another input geometry, and saving with the code."""

    config: SpectrogramConfig
    config_class: type[SpectrogramConfig] = SpectrogramConfig
    base_model_prefix = "backbone"
    main_input_name = "input_values"
    input_modalities = ("audio",)  # type: ignore[assignment]  # as transformers' own audio models
    supports_gradient_checkpointing = True
    _no_split_modules = ["SpectrogramEmbeddings", "SpectrogramLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": EncoderLayer, "attentions": SelfAttention}
    _input_embed_layer = "patch_embedding"
    # Auto class -> class of the family; written into the `auto_map` of saved models
    _auto_classes: ClassVar[dict[str, str]] = {}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        initialize_weights(module, self.config.initializer_range)

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers looks for words of its own models in the code, and else keeps the attention as it is, in silence
        return True

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """`PreTrainedModel.from_pretrained` that keeps the weights when the input geometry changes.

        `max_length`, `num_mel_bins`, `frequency_stride` and `time_stride`, given as keywords or in `config`, may
        differ from the checkpoint's: the position table is then resized by the official rule of the family.
        """
        config: Any = kwargs.get("config")
        if config is None:
            geometry = {name: kwargs.pop(name) for name in GEOMETRY_FIELDS if name in kwargs}
        else:
            if not isinstance(config, PreTrainedConfig):
                values, _ = cls.config_class.get_config_dict(config)
                config = cls.config_class.from_dict(values)
            stored = cls._stored_config(pretrained_model_name_or_path, kwargs) or config
            geometry = {name: getattr(config, name) for name in GEOMETRY_FIELDS}
            kwargs["config"] = _with_geometry(config, {name: getattr(stored, name) for name in GEOMETRY_FIELDS})
        result = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        (result[0] if isinstance(result, tuple) else result).resize_input(**geometry)
        return result

    @classmethod
    def _stored_config(cls, path: str | os.PathLike[str] | None, kwargs: dict[str, Any]) -> SpectrogramConfig | None:
        """Read the checkpoint's own config, or return None for a weight file or a state dict, which has none."""
        if path is None or os.path.isfile(path):
            return None
        if os.path.isdir(path) and not os.path.isfile(os.path.join(path, kwargs.get("subfolder", ""), "config.json")):
            return None
        return cls.config_class.from_pretrained(path, **{k: kwargs[k] for k in HUB_ARGUMENTS if k in kwargs})

    def get_input_embeddings(self) -> nn.Module:
        """Return the patch embedding; under FSDP2, the module that is sharded as a whole and holds it.

        accelerate shards the returned module as a unit of its own, so it must not be part of another unit.
        """
        embeddings = cast("SpectrogramModel", self.base_model).embeddings
        is_sharded = _unsharded_class(type(embeddings)) is not type(embeddings)
        return embeddings if is_sharded else embeddings.patch_embedding

    def resize_input(
        self,
        *,
        max_length: int | None = None,
        num_mel_bins: int | None = None,
        frequency_stride: int | None = None,
        time_stride: int | None = None,
    ) -> None:
        """Change the input geometry in place and keep the weights. Arguments left at None keep their value.

        The position table is cut or interpolated by the rule of its kind (`modules_positions`); no other weight
        changes.
        """
        values = (num_mel_bins, max_length, frequency_stride, time_stride)
        geometry = {
            name: value
            for name, value in zip(GEOMETRY_FIELDS, values, strict=True)
            if value is not None and value != getattr(self.config, name)
        }
        if not geometry:
            return
        moved = _with_geometry(self.config, geometry)
        embeddings = cast("SpectrogramModel", self.base_model).embeddings
        with _gathered(embeddings.positions):
            embeddings.resize(num_mel_bins=moved.num_mel_bins, stride=moved.strides, grid=moved.position_grid)
        for name, value in geometry.items():
            setattr(self.config, name, value)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save weights, config and the code that opens them (`trust_remote_code=True` works without `hf_ast`).

        The code of a subclass that is defined in a script or a notebook cannot be saved: transformers warns, and the
        config names no code for the model.
        """
        sharded_class = type(self)
        self.__class__ = _unsharded_class(sharded_class)  # whose code and name are saved
        try:
            self._save_with_code(save_directory, *args, **kwargs)
        finally:
            self.__class__ = sharded_class

    def _save_with_code(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        modeling = sys.modules[type(self).__module__]
        file_name = modeling.__name__.rpartition(".")[2]
        auto_map = dict(getattr(self.config, "auto_map", None) or {})
        for auto_class, class_name in self._auto_classes.items():
            auto_map.pop(auto_class, None)
            if file_name != "__main__" and hasattr(modeling, class_name):
                auto_map[auto_class] = f"{file_name}.{class_name}"
        self.config.auto_map = auto_map
        # Our own layout, even for a model that was loaded from another one
        kwargs.setdefault("save_original_format", False)
        with generated_code(type(self)):
            super().save_pretrained(save_directory, *args, **kwargs)


def _gathered(module: nn.Module) -> AbstractContextManager[None]:
    """A context in which parameters that DeepSpeed ZeRO-3 shards over the processes are gathered."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    # Not an import statement: transformers would require DeepSpeed wherever it loads this file as remote code
    deepspeed = importlib.import_module("deepspeed")
    context: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(list(module.parameters()))
    return context


def _unsharded_class(module_class: type) -> type:
    """Return the class that a module had before FSDP2 (`fully_shard`) changed it."""
    # By name, because `torch.distributed` may be unavailable
    return next(
        base for base in module_class.__mro__ if all(parent.__name__ != "FSDPModule" for parent in base.__mro__)
    )


def _with_geometry(config: SpectrogramConfig, geometry: dict[str, int]) -> SpectrogramConfig:
    """Return a validated copy of `config` with the given geometry fields."""
    changed = copy.deepcopy(config)
    for name, value in geometry.items():
        setattr(changed, name, value)
    changed.validate_geometry()
    return changed


@dataclass
class SpectrogramModelOutput(BaseModelOutputWithPooling):
    """Output of the models without a head.

    Args:
        kept_patches: In training with patchout, the row-major numbers of the patches that are left, shape (1 or B, K).
    """

    kept_patches: Tensor | None = None


class SpectrogramModel(SpectrogramPreTrainedModel):
    """Embeddings, encoder, final norm and pooling."""

    def __init__(self, config: SpectrogramConfig):
        super().__init__(config)
        arguments = {name: getattr(config, name) for name in ARGUMENTS}
        arguments["initializer_range"] = None  # `post_init` initialises
        backbone = SpectrogramTransformer(**arguments, layer_class=SpectrogramLayer)
        self.embeddings, self.layers, self.norm = backbone.embeddings, backbone.layers, backbone.norm
        for module in self.modules():
            if isinstance(module, SelfAttention):
                # transformers' flash attention reads it there; plain torch declares no such attribute
                module.config = config  # type: ignore[assignment]
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        masked_patches: Tensor | None = None,
        mask_embedding: Tensor | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SpectrogramModelOutput:
        """Encode spectrograms.

        Args:
            input_values: Normalised log-mel spectrograms, shape (B, T, M), as the feature extractor returns them. The
                extractor refuses NaN and infinite values; the models do not check for them, and propagate them.
            attention_mask: 1 for real frames, 0 for padding, shape (B, T). Without it padding is attended to, as in
                the official models.
            masked_patches: True for patches to replace by `mask_embedding` (for pretraining), shape (B, F', T').
            mask_embedding: Shape (1, 1, D).
            generator: Source of the random draws of patchout and positions in training mode; the global one if None.

        Returns:
            `last_hidden_state` (B, N, D) after the final norm, `pooler_output` (B, D).
        """
        if input_values is None:
            raise ValueError("input_values is required: a spectrogram of shape (B, frames, mel bins).")
        embedded = self.embeddings(input_values, attention_mask, masked_patches, mask_embedding, generator=generator)
        encoder_mask = create_bidirectional_mask(self.config, embedded.tokens, embedded.mask)
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        encoded = encode(
            self,
            embedded,
            encoder_mask,
            pooling=self.config.pooling,
            num_cells=self.config.num_cells,
            token_merging=0.0 if self.training or masked_patches is not None else self.config.token_merging,
            attention_function=attention,
            **kwargs,
        )
        return SpectrogramModelOutput(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=encoded.pooled,
            kept_patches=encoded.kept_patches,
        )


class SpectrogramForAudioClassification(SpectrogramPreTrainedModel):
    """A backbone and its classification head."""

    # A model of frames has a head of this name for whole clips
    _keys_to_ignore_on_load_unexpected = [r"^frame_classifier\."]
    backbone_class: ClassVar[type[SpectrogramModel]] = SpectrogramModel

    def __init__(self, config: SpectrogramConfig):
        _use_clip_labels(config)
        super().__init__(config)
        self.num_labels = config.num_labels
        self.backbone = self.backbone_class(config)
        self.classifier = ClassificationHead(
            config.hidden_size,
            cast("int", config.num_labels),
            layer_norm_eps=config.head_layer_norm_eps,
            has_norm=config.use_head_norm,
        )
        self.loss_function = audio_classification_loss
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify spectrograms.

        Args:
            input_values: Normalised log-mel spectrograms, shape (B, T, M); NaN values are propagated, not refused.
            labels: Class indices (B,), multi-hot or soft labels (B, C), or regression targets, as
                `config.problem_type` says (see `classification_loss`); without it, inferred from the labels and stored
                in the config.
            attention_mask: 1 for real frames, 0 for padding, shape (B, T).
            kwargs: `generator`, and what transformers' models take (`output_hidden_states`, `return_dict`, ...).

        Returns:
            Raw `logits` (B, C), and `loss` if labels are given.
        """
        outputs = self.backbone(input_values, attention_mask=attention_mask, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


@dataclass
class AudioFrameClassifierOutput(TokenClassifierOutput):
    """Output of the models that label cells of time.

    Args:
        loss: Loss on the labels that were given.
        logits: Raw scores of the cells, shape (B, K, C).
        hidden_states, attentions: As in other models.
        clip_logits: Raw scores of whole clips, shape (B, C); None without a clip head.
    """

    clip_logits: Tensor | None = None


class SpectrogramForAudioFrameClassification(SpectrogramPreTrainedModel):
    """A backbone with a head for cells of time, and one for whole clips (`config.clip_head`)."""

    _keys_to_ignore_on_load_unexpected = [r"^objectives\."]
    backbone_class: ClassVar[type[SpectrogramModel]] = SpectrogramModel

    def __init__(self, config: SpectrogramConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.backbone = self.backbone_class(config)
        self.frame_classifier, self.classifier = build_heads(
            config.hidden_size,
            cast("int", config.num_labels),
            config.clip_head,
            None if config.clip_labels is None else len(config.clip_labels),
            config.head_layer_norm_eps,
            config.use_head_norm,
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        clip_labels: Tensor | None = None,
        num_clip_items_in_batch: Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> AudioFrameClassifierOutput:
        """Label the cells of spectrograms.

        Args:
            input_values: Normalised log-mel spectrograms, shape (B, T, M); NaN values are propagated, not refused.
            labels: Multi-hot or soft labels of the cells, -100 where unknown, shape (B, K, C). Cells in padding have
                no share in the loss.
            attention_mask: 1 for real frames, 0 for padding, shape (B, T). Each clip then has the cells that it has
                alone; a clip that begins with padding has them from the first cell on.
            clip_labels: Multi-hot or soft labels of the clips, -100 where unknown, shape (B, C).
            num_clip_items_in_batch: Known label values of clips in the whole optimizer step, as `num_items_in_batch`
                are those of cells; each loss is the mean over the given batch if None.
            kwargs: `generator`, `num_items_in_batch`, and what transformers' models take (`output_hidden_states`,
                `return_dict`, ...).

        Returns:
            Raw `logits` (B, K, C), `clip_logits` (B, C) with a clip head, and `loss` if labels are given.
        """
        if self.config.token_merging and not self.training:
            raise ValueError(
                f"token_merging={self.config.token_merging} merges tokens of different times; set it to 0 in a model "
                "that labels frames."
            )
        outputs = self.backbone(input_values, attention_mask=attention_mask, **kwargs)
        cells = cells_of(
            self.backbone.embeddings,
            outputs.last_hidden_state,
            outputs.kept_patches,
            cast("Tensor", input_values).shape[1],
            attention_mask,
            self.config.num_cells,
        )
        logits, clip_logits = frame_logits(
            cells, outputs.pooler_output, self.frame_classifier, self.classifier, self.config.clip_head
        )
        loss = None
        if labels is not None:
            loss = frame_loss(logits, labels, cells.mask, kwargs.get("num_items_in_batch"))
        if clip_labels is not None:
            if clip_logits is None:
                raise ValueError("clip_labels need a clip head; load the model with clip_head='linear'.")
            clip_loss = self.config.clip_loss_weight * classification_loss(
                clip_logits, clip_labels, "multi_label_classification", num_clip_items_in_batch
            )
            loss = clip_loss if loss is None else loss + clip_loss
        return AudioFrameClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            clip_logits=clip_logits,
        )


def _use_clip_labels(config: SpectrogramConfig) -> None:
    """Make the labels of whole clips the labels of a model, which may come from one that labels cells, too.

    Raises:
        ValueError: The head for clips weights cells, which a model without them cannot do.
    """
    if config.clip_head == "attention":
        raise ValueError(
            "clip_head='attention' labels clips by their cells: open the model with "
            "AutoModelForAudioFrameClassification, which returns clip_logits; or pass clip_head='linear' and train a "
            "new head."
        )
    if config.clip_labels is not None:
        config.id2label = dict(enumerate(config.clip_labels))
        config.label2id = {name: number for number, name in enumerate(config.clip_labels)}
        config.clip_labels = None


def audio_classification_loss(
    labels: Tensor,
    logits: Tensor,
    config: SpectrogramConfig,
    num_items_in_batch: Tensor | int | None = None,
    **kwargs: Any,
) -> Tensor:
    """`classification_loss` in the signature of transformers' loss functions."""
    problem_type = config.problem_type or infer_problem_type(labels, logits.shape[1])
    loss = classification_loss(logits, labels, problem_type, num_items_in_batch)
    if config.problem_type is None:  # only now, because labels that were refused must not decide it
        config.problem_type = problem_type
    return loss
