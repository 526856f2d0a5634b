"""The whole model in plain torch: it is built from keyword arguments, and loads our `model.safetensors` strictly.

Example:
    model = SpectrogramClassifier.from_config(json.load(open("config.json")))
    model.load_state_dict(safetensors.torch.load_file("model.safetensors"))
    logits = model.eval()(input_values)
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .modules_cells import Cells, cells_of_columns, resample_cells
from .modules_classification import ClassificationHead
from .modules_conv_stem import ConvStemEmbeddings
from .modules_embeddings import PATCH_EMBEDDINGS, Embedded, SpectrogramEmbeddings, order_from_start
from .modules_encoder import EncoderLayer, FeedForward, SelfAttention, drop_path_rates
from .modules_frames import build_heads, frame_logits
from .modules_patchout import Patchout
from .modules_pooling import pool_tokens
from .modules_positions import POSITION_TABLES, position_grid
from .modules_token_merging import merge_tokens

# `patch_embedding` in a config -> how a spectrogram becomes patches
EMBEDDINGS: dict[str, type[SpectrogramEmbeddings]] = dict(
    zip(PATCH_EMBEDDINGS, (SpectrogramEmbeddings, ConvStemEmbeddings), strict=True)
)


def initialize_weights(module: nn.Module, std: float = 0.02) -> None:
    """Initialise the parameters that `module` itself holds like timm's ViT, for `nn.Module.apply`.

    It uses only functions of `torch.nn.init`, which transformers replaces while it loads a checkpoint, so that loaded
    tensors survive.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif (initialize := getattr(module, "initialize", None)) is not None:
        initialize(std)


class Encoded(NamedTuple):
    """Output of `SpectrogramTransformer`.

    Attributes:
        last_hidden_state: Normalised tokens (B, N, D).
        pooled: One vector per clip (B, D).
        kept_patches: See `Embedded.kept`.
    """

    last_hidden_state: Tensor
    pooled: Tensor
    kept_patches: Tensor | None = None


class SpectrogramTransformer(nn.Module):
    """The backbone of every family, without a head: the one place where the architecture is built.

    The transformers models take their parts from here, so that the parameter names are the same. The defaults are the
    base Audio Spectrogram Transformer (Gong et al. 2021, https://arxiv.org/abs/2104.01778). PaSST (Koutini et al.
    2022, https://arxiv.org/abs/2110.05069) is `max_length=998, position_table="factorised"`.

    Args:
        hidden_size: D.
        num_hidden_layers: Encoder layers.
        num_attention_heads: Heads per layer.
        intermediate_size: Width of the feed-forward layers.
        hidden_act: One of `modules_encoder.ACTIVATIONS`.
        hidden_dropout_prob, attention_probs_dropout_prob, drop_path_rate: Probabilities in training mode.
        initializer_range: Standard deviation of new weights; None leaves the initialisation to the caller.
        layer_norm_eps: Epsilon of the norms in the layers and of the final norm.
        qkv_bias: Whether the query, key and value projection has a bias.
        pooling: One of `modules_pooling.POOLINGS`.
        num_cells: Cells of time that every clip gets (fPaSST), see `resample_cells`; one per column if None.
        patch_embedding: "linear", or "conv_stem" (fPaSST); one of `PATCH_EMBEDDINGS`.
        patch_size, frequency_stride, time_stride, num_mel_bins: See `SpectrogramEmbeddings`.
        use_distillation_token, position_crop, position_overflow: See `SpectrogramEmbeddings`.
        max_length: Frames that the position table covers.
        position_table: One of `modules_positions.POSITION_TABLES`: "joint", one table for the patch grid, with AST's
            rule for other sizes; "ssast", the same with SSAST's rule; "factorised", one table for the rows of the grid
            and one for its columns, as in PaSST.
        time_patchout, frequency_patchout, unstructured_patchout, patchout_per_clip: See `Patchout`.
        token_merging: Share of the patch tokens that each layer but the last merges in eval mode; see `encode`.
        layer_class: Class of the encoder layers; it takes the arguments of `EncoderLayer`.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        drop_path_rate: float = 0.0,
        initializer_range: float | None = 0.02,
        layer_norm_eps: float = 1e-6,
        qkv_bias: bool = True,
        pooling: str = "prefix",
        num_cells: int | None = None,
        patch_embedding: str = "linear",
        patch_size: tuple[int, int] = (16, 16),
        frequency_stride: int = 10,
        time_stride: int = 10,
        max_length: int = 1024,
        num_mel_bins: int = 128,
        use_distillation_token: bool = True,
        position_crop: str = "start",
        position_overflow: str = "error",
        position_table: str = "joint",
        time_patchout: int = 0,
        frequency_patchout: int = 0,
        unstructured_patchout: int = 0,
        patchout_per_clip: bool = False,
        token_merging: float = 0.0,
        layer_class: Callable[..., nn.Module] = EncoderLayer,
    ):
        super().__init__()
        self.hidden_size = hidden_size
        self.pooling = pooling
        self.num_cells = num_cells
        self.token_merging = token_merging
        height, width = patch_size
        stride = (frequency_stride, time_stride)
        grid = position_grid(position_table, num_mel_bins, max_length, (height, width), stride)
        self.embeddings = EMBEDDINGS[patch_embedding](
            hidden_size,
            POSITION_TABLES[position_table](hidden_size, grid),
            num_mel_bins=num_mel_bins,
            patch_size=(height, width),
            frequency_stride=frequency_stride,
            time_stride=time_stride,
            use_distillation_token=use_distillation_token,
            position_crop=position_crop,
            position_overflow=position_overflow,
            dropout=hidden_dropout_prob,
            patchout=Patchout(time_patchout, frequency_patchout, unstructured_patchout, per_clip=patchout_per_clip),
        )
        self.layers = nn.ModuleList(
            layer_class(
                hidden_size,
                SelfAttention(
                    hidden_size, num_attention_heads, qkv_bias=qkv_bias, dropout=attention_probs_dropout_prob
                ),
                FeedForward(hidden_size, intermediate_size, activation=hidden_act),
                dropout=hidden_dropout_prob,
                drop_path_rate=rate,
                layer_norm_eps=layer_norm_eps,
            )
            for rate in drop_path_rates(drop_path_rate, num_hidden_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        if initializer_range is not None:
            self.apply(partial(initialize_weights, std=initializer_range))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SpectrogramTransformer":
        """Build the backbone that a config.json of ours describes.

        Args:
            config: Content of the file, as `json.load` returns it. Fields that are not arguments are ignored.
        """
        return cls(**{name: config[name] for name in ARGUMENTS if name in config})

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        masked_patches: Tensor | None = None,
        mask_embedding: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Encoded:
        """Encode normalised log-mel spectrograms.

        Args:
            input_values: Shape (B, T, M).
            attention_mask: 1 for real frames, 0 for padding, shape (B, T).
            masked_patches, mask_embedding: For pretraining; see `SpectrogramEmbeddings.forward`.
            generator: Source of the draws of patchout and positions in training mode; the global one if None.
            kwargs: `attention_function` (see `modules_encoder`), and its arguments.
        """
        embedded = self.embeddings(input_values, attention_mask, masked_patches, mask_embedding, generator=generator)
        key_mask = None if embedded.mask is None else embedded.mask[:, None, None, :]
        merging = 0.0 if self.training or masked_patches is not None else self.token_merging
        return encode(
            self,
            embedded,
            key_mask,
            pooling=self.pooling,
            num_cells=self.num_cells,
            token_merging=merging,
            **kwargs,
        )


# Arguments for which a config has a field of the same name
ARGUMENTS = tuple(name for name in inspect.signature(SpectrogramTransformer).parameters if name != "layer_class")


class Encoder(Protocol):
    """The parts that `encode` uses, of `SpectrogramTransformer` or of a transformers model."""

    embeddings: SpectrogramEmbeddings
    layers: nn.ModuleList
    norm: nn.LayerNorm


def encode(
    encoder: Encoder,
    embedded: Embedded,
    encoder_mask: Any,
    *,
    pooling: str,
    num_cells: int | None = None,
    token_merging: float = 0.0,
    **kwargs: Any,
) -> Encoded:
    """Run the layers and the final norm on embedded tokens, and pool.

    Args:
        encoder: The model that holds the parts.
        embedded: Tokens and their mask, as the embeddings return them.
        encoder_mask: The same mask in the form that the attention function takes.
        pooling: One of `modules_pooling.POOLINGS`.
        num_cells: See `pool_tokens`.
        token_merging: Share of the patch tokens, at most 1/2, that are merged with similar ones after each layer but
            the last (`merge_tokens`). The result then has fewer tokens.
        kwargs: Further arguments of the layers.

    Raises:
        ValueError: Tokens are to be merged, but some are padding.
    """
    tokens, token_mask, kept = embedded
    num_prefix_tokens = encoder.embeddings.num_prefix_tokens
    patch_mask = None if token_mask is None else token_mask[:, num_prefix_tokens:]
    if token_merging and token_mask is not None:
        if not token_mask.all():
            raise ValueError(
                f"token_merging={token_merging} needs clips without padding; pass clips of equal length together "
                "(`score_clips`: max_padding=0), or set token_merging=0."
            )
        encoder_mask = None
    for index, layer in enumerate(encoder.layers):
        tokens = layer(tokens, encoder_mask, **kwargs)
        # Without merging, exported graphs need no product of a symbolic length
        num_merged = int(token_merging * (tokens.shape[1] - num_prefix_tokens)) if token_merging else 0
        if num_merged and index + 1 < len(encoder.layers):
            tokens, patch_mask = merge_tokens(
                tokens,
                None if index == 0 else patch_mask,
                num_merged=num_merged,
                num_prefix_tokens=num_prefix_tokens,
            )
    tokens = encoder.norm(tokens)
    pooled = pool_tokens(tokens, pooling, num_prefix_tokens, patch_mask, num_cells=num_cells)
    return Encoded(tokens, pooled, kept)


def cells_of(
    embeddings: SpectrogramEmbeddings,
    last_hidden_state: Tensor,
    kept: Tensor | None,
    num_frames: int,
    attention_mask: Tensor | None,
    num_cells: int | None,
) -> Cells:
    """The cells of time of encoded clips.

    Args:
        embeddings: Those that made the tokens.
        last_hidden_state: Normalised tokens (B, N, D), none of them merged.
        kept: See `Embedded.kept`.
        num_frames: Frames of the input, T.
        attention_mask: The frame mask of the input (B, T), or None.
        num_cells: Cells that every clip gets; one per column of the patch grid if None.
    """
    num_columns = embeddings.num_columns(num_frames)
    column_mask = None
    if attention_mask is not None:
        column_mask = embeddings.column_mask(attention_mask.gather(1, order_from_start(attention_mask)))
    if embeddings.position_overflow == "crop":
        num_columns = min(num_columns, embeddings.positions.num_columns)
    patches = last_hidden_state[:, embeddings.num_prefix_tokens :]
    cells = cells_of_columns(patches, embeddings.num_rows, column_mask, kept, num_columns)
    if num_cells is None:
        return cells
    if kept is not None:
        raise ValueError(
            f"num_cells={num_cells} stretches the tokens of a clip, so that none may be dropped; train with "
            "time_patchout=0, or with num_cells=None."
        )
    return Cells(resample_cells(cells.tokens, num_cells, cells.mask), None)


class SpectrogramClassifier(nn.Module):
    """A backbone and its classification head, with the parameter names of `HfASTForAudioClassification`."""

    def __init__(
        self,
        backbone: SpectrogramTransformer,
        num_labels: int,
        *,
        head_layer_norm_eps: float = 1e-5,
        use_head_norm: bool = True,
    ):
        super().__init__()
        self.backbone = backbone
        self.classifier = ClassificationHead(
            backbone.hidden_size, num_labels, layer_norm_eps=head_layer_norm_eps, has_norm=use_head_norm
        )
        self.classifier.apply(initialize_weights)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SpectrogramClassifier":
        """Build the model that a config.json of ours describes; the number of labels is that of its `id2label`."""
        num_labels = len(config["id2label"]) if "id2label" in config else 2  # as transformers
        settings = {name: config[name] for name in ("head_layer_norm_eps", "use_head_norm") if name in config}
        return cls(SpectrogramTransformer.from_config(config), num_labels, **settings)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Normalised log-mel spectrograms (B, T, M) -> logits (B, C)."""
        return self.classifier(self.backbone(input_values, attention_mask, generator=generator).pooled)


class SpectrogramFrameClassifier(nn.Module):
    """A backbone with a head for cells of time, with the parameter names of `HfASTForAudioFrameClassification`.

    Args:
        backbone: The backbone.
        num_labels: Classes of the cells.
        clip_head: One of `modules_frames.CLIP_HEADS`.
        num_clip_labels: Classes of whole clips; those of the cells if None.
        head_layer_norm_eps, use_head_norm: See `ClassificationHead`.
    """

    def __init__(
        self,
        backbone: SpectrogramTransformer,
        num_labels: int,
        *,
        clip_head: str = "linear",
        num_clip_labels: int | None = None,
        head_layer_norm_eps: float = 1e-5,
        use_head_norm: bool = True,
    ):
        super().__init__()
        self.backbone = backbone
        self.clip_head = clip_head
        self.frame_classifier, self.classifier = build_heads(
            backbone.hidden_size, num_labels, clip_head, num_clip_labels, head_layer_norm_eps, use_head_norm
        )
        self.frame_classifier.apply(initialize_weights)
        if self.classifier is not None:
            self.classifier.apply(initialize_weights)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SpectrogramFrameClassifier":
        """Build the model that a config.json of ours describes; the number of labels is that of its `id2label`."""
        num_labels = len(config["id2label"]) if "id2label" in config else 2  # as transformers
        clip_labels = config.get("clip_labels")
        settings = {
            name: config[name] for name in ("clip_head", "head_layer_norm_eps", "use_head_norm") if name in config
        }
        return cls(
            SpectrogramTransformer.from_config(config),
            num_labels,
            num_clip_labels=None if clip_labels is None else len(clip_labels),
            **settings,
        )

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Normalised log-mel spectrograms (B, T, M) -> logits of cells (B, K, C) and of clips (B, C) or None."""
        encoded = self.backbone(input_values, attention_mask, generator=generator)
        cells = cells_of(
            self.backbone.embeddings,
            encoded.last_hidden_state,
            encoded.kept_patches,
            input_values.shape[1],
            attention_mask,
            self.backbone.num_cells,
        )
        return frame_logits(cells, encoded.pooled, self.frame_classifier, self.classifier, self.clip_head)
