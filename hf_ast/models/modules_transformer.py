"""The whole model in plain torch: build it by keyword, load a `model.safetensors` of ours into it strictly.

Example:
    backbone = SpectrogramTransformer(hidden_size=768, max_length=1024)
    model = SpectrogramClassifier(backbone, num_labels=527)
    model.load_state_dict(safetensors.torch.load_file("model.safetensors"))
    logits = model.eval()(input_values)
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .modules_classification import ClassificationHead
from .modules_embeddings import SpectrogramEmbeddings, grid_shape
from .modules_encoder import (
    AttentionFunction,
    EncoderLayer,
    FeedForward,
    SelfAttention,
    drop_path_rates,
    sdpa_attention,
)
from .modules_patchout import Patchout
from .modules_pooling import pool_tokens
from .modules_positions import FactorisedPositionTable, JointPositionTable, factorised_grid


def initialize_weights(module: nn.Module, std: float = 0.02) -> None:
    """Initialise the parameters that `module` itself holds, as timm's ViT: for `nn.Module.apply`.

    Only functions of `torch.nn.init`: transformers replaces those while it loads a checkpoint, so that loaded
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
    """Output of `SpectrogramTransformer`: normalised tokens (B, N, D), and one pooled vector per clip (B, D)."""

    last_hidden_state: Tensor
    pooled: Tensor


class SpectrogramTransformer(nn.Module):
    """The backbone of every family, without a head. Same parameter names as `HfASTModel` and `PaSSTModel`.

    The defaults are the base Audio Spectrogram Transformer (Gong et al. 2021, https://arxiv.org/abs/2104.01778); PaSST
    (Koutini et al. 2022, https://arxiv.org/abs/2110.05069) is `max_length=998, factorised_positions=True`.

    Args:
        hidden_size: D.
        num_hidden_layers: Encoder layers.
        num_attention_heads: Heads per layer.
        intermediate_size: Width of the feed-forward layers.
        hidden_act: One of `modules_encoder.ACTIVATIONS`.
        hidden_dropout_prob, attention_probs_dropout_prob, drop_path_rate: Probabilities in training mode.
        layer_norm_eps: Of the layers and the final norm.
        qkv_bias: Bias in the query, key and value projection.
        pooling: One of `modules_pooling.POOLINGS`.
        patch_size, frequency_stride, time_stride, max_length, num_mel_bins, use_distillation_token, position_crop,
            position_overflow: See `SpectrogramEmbeddings`.
        factorised_positions: One position table for rows and one for columns, as PaSST, instead of one for the grid.
        time_patchout, frequency_patchout, unstructured_patchout, patchout_per_clip: See `Patchout`.
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
        layer_norm_eps: float = 1e-6,
        qkv_bias: bool = True,
        pooling: str = "prefix",
        patch_size: tuple[int, int] = (16, 16),
        frequency_stride: int = 10,
        time_stride: int = 10,
        max_length: int = 1024,
        num_mel_bins: int = 128,
        use_distillation_token: bool = True,
        position_crop: str = "start",
        position_overflow: str = "error",
        factorised_positions: bool = False,
        time_patchout: int = 0,
        frequency_patchout: int = 0,
        unstructured_patchout: int = 0,
        patchout_per_clip: bool = False,
    ):
        super().__init__()
        self.hidden_size = hidden_size
        self.pooling = pooling
        grid = grid_shape(num_mel_bins, max_length, patch_size, (frequency_stride, time_stride))
        if factorised_positions:
            grid = factorised_grid(grid, max_length, time_stride)
        self.embeddings = SpectrogramEmbeddings(
            hidden_size,
            (FactorisedPositionTable if factorised_positions else JointPositionTable)(hidden_size, grid),
            num_mel_bins=num_mel_bins,
            patch_size=patch_size,
            frequency_stride=frequency_stride,
            time_stride=time_stride,
            use_distillation_token=use_distillation_token,
            position_crop=position_crop,
            position_overflow=position_overflow,
            dropout=hidden_dropout_prob,
            patchout=Patchout(time_patchout, frequency_patchout, unstructured_patchout, per_clip=patchout_per_clip),
        )
        self.layers = nn.ModuleList(
            EncoderLayer(
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
        self.apply(initialize_weights)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        hidden_patches: Tensor | None = None,
        mask_embedding: Tensor | None = None,
        *,
        attention_function: AttentionFunction = sdpa_attention,
        generator: torch.Generator | None = None,
    ) -> Encoded:
        """Encode normalised log-mel spectrograms.

        Args:
            input_values: Shape (B, T, M).
            attention_mask: 1 for real frames, 0 for padding, shape (B, T).
            hidden_patches, mask_embedding: For pretraining; see `SpectrogramEmbeddings.forward`.
            attention_function: See `modules_encoder`.
            generator: Source of the draws of patchout and positions in training mode; the global one if None.
        """
        tokens, token_mask = self.embeddings(
            input_values, attention_mask, hidden_patches, mask_embedding, generator=generator
        )
        key_mask = None if token_mask is None else token_mask[:, None, None, :]
        for layer in self.layers:
            tokens = layer(tokens, key_mask, attention_function=attention_function)
        tokens = self.norm(tokens)
        num_prefix_tokens = self.embeddings.num_prefix_tokens
        patch_mask = None if token_mask is None else token_mask[:, num_prefix_tokens:]
        return Encoded(tokens, pool_tokens(tokens, self.pooling, num_prefix_tokens, patch_mask))


class SpectrogramClassifier(nn.Module):
    """A backbone and its classification head. Same parameter names as `HfASTForAudioClassification`."""

    def __init__(self, backbone: SpectrogramTransformer, num_labels: int, *, head_layer_norm_eps: float = 1e-5):
        super().__init__()
        self.backbone = backbone
        self.classifier = ClassificationHead(backbone.hidden_size, num_labels, layer_norm_eps=head_layer_norm_eps)
        self.classifier.apply(initialize_weights)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Normalised log-mel spectrograms (B, T, M) -> logits (B, C)."""
        return self.classifier(self.backbone(input_values, attention_mask, generator=generator).pooled)
