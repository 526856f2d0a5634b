"""Forward passes computed directly from the tensors of official files.

They show that a conversion maps the names correctly. A round trip cannot, because mistakes in a key map cancel out.
Therefore nothing here uses `hf_ast`, the key maps or the layouts; the computation is that of YuanGongND/ast and
YuanGongND/ssast (src/models/ast_models.py), kkoutini/PaSST (models/passt.py), fschmid56/PretrainedSED
(models/frame_passt, models/prediction_wrapper.py) and tky823/TorchOnlyAST in eval mode, for clips that are not longer
than the position tables.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ENCODER_EPS = 1e-6
HEAD_EPS = 1e-5  # torch's default, as in the heads
# Norm and linear layer of the classifier, in each kind of file
CLASSIFIERS = (("mlp_head.0", "mlp_head.1"), ("head.0", "head.1"), ("head.norm", "head.linear"))
# The two linear layers of each pretraining head, in each kind of file
PREDICTORS = {
    "classification_predictions": (("cpredlayer.0", "cpredlayer.2"), ("classifier.linear1", "classifier.linear2")),
    "reconstructions": (("gpredlayer.0", "gpredlayer.2"), ("reconstructor.linear1", "reconstructor.linear2")),
}


def reference_forward(
    tensors: Mapping[str, Tensor],
    input_values: Tensor,
    *,
    num_heads: int,
    stride: tuple[int, int],
    pooling: str = "prefix",
    mask_indices: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute what the official model with these tensors computes.

    Args:
        tensors: Content of a file of AST, SSAST, PaSST or TorchOnlyAST, names without `module.`; or the result of
            `spectrogram_start` for DeiT.
        input_values: Shape (B, T, M).
        num_heads: Attention heads.
        stride: Mel bins and frames between patches.
        pooling: "prefix" (cls and distillation token), "mean" (of the patches, SSAST's `ft_avgtok`) or "cls".
        mask_indices: Patches to mask, numbered row by row, shape (B, K); for SSAST in pretraining.

    Returns:
        `last_hidden_state` (B, N, D); `logits` (B, C) if there is a classifier; with `mask_indices` the
        `classification_predictions` and `reconstructions` (B, K, P) of the heads that are in the file.
    """
    tensors = {name.removeprefix("v."): tensor for name, tensor in tensors.items()}
    torch_only = "embedding.cls_token" in tensors
    projection = "embedding.conv2d" if torch_only else "patch_embed.proj"
    patches = F.conv2d(input_values.mT.unsqueeze(1), *_layer(tensors, projection), stride=stride)  # (B, D, F', T')
    if mask_indices is not None:
        mask = tensors["masker.mask_embedding" if torch_only else "mask_embed"]
        index = mask_indices.unsqueeze(1).expand(-1, patches.shape[1], -1)
        mask_tokens = mask.view(1, -1, 1).expand(index.shape)
        patches = patches.flatten(2).scatter(2, index, mask_tokens).view_as(patches)
    encoded = (_encode_torch_only if torch_only else _encode)(tensors, patches, num_heads)

    outputs = {"last_hidden_state": encoded}
    pooled = {"prefix": encoded[:, :2], "cls": encoded[:, :1], "mean": encoded[:, 2:]}[pooling].mean(1)
    for norm, linear in CLASSIFIERS:
        if f"{linear}.weight" in tensors:
            outputs["logits"] = F.linear(_norm(tensors, norm, pooled, HEAD_EPS), *_layer(tensors, linear))
    if mask_indices is not None:
        index = (2 + mask_indices).unsqueeze(-1).expand(-1, -1, encoded.shape[-1])
        for name, layers in PREDICTORS.items():
            for first, second in layers:
                if f"{first}.weight" in tensors:
                    inner = F.linear(encoded.gather(1, index), *_layer(tensors, first)).relu()
                    outputs[name] = F.linear(inner, *_layer(tensors, second))
    return outputs


def fpasst_reference(
    tensors: Mapping[str, Tensor], input_values: Tensor, *, num_heads: int, num_cells: int, clip_head: str = "linear"
) -> dict[str, Tensor]:
    """Compute what the official fPaSST with these tensors computes, in eval mode.

    Args:
        tensors: Content of a file; names begin with `model.`, with `model.fpasst.`, or with neither.
        input_values: Shape (B, T, M), not longer than the position table.
        num_heads: Attention heads.
        num_cells: Predictions per clip, `seq_len`.
        clip_head: "linear", or "attention" for the attention pooling, whose probabilities are returned as logits.

    Returns:
        `last_hidden_state` (B, N, D). With a strong head `logits` (B, num_cells, C), and `clip_logits` (B, C) if there
        is a weak head, too; with a weak head alone `logits` (B, C).
    """
    tensors = {name.removeprefix("model.").removeprefix("fpasst."): tensor for name, tensor in tensors.items()}
    columns = input_values.mT.unsqueeze(1)
    for number, stride in ((1, 2), (2, 1), (3, 2)):
        columns = F.gelu(F.conv2d(columns, *_layer(tensors, f"conv_in_{number}"), stride=stride, padding=1))
    columns = columns.reshape(len(columns), -1, input_values.shape[2], columns.shape[3])
    # The official convolution pads both ends, and its first output is dropped
    patches = F.conv2d(columns, *_layer(tensors, "patch_embed.proj"), padding=(0, 1))[..., 1:]
    encoded = _encode(tensors, patches, num_heads)
    outputs = {"last_hidden_state": encoded}
    sequence = encoded[:, 2:].mT
    if sequence.shape[2] > num_cells:
        cells = F.adaptive_avg_pool1d(sequence, num_cells).mT
    else:
        cells = F.interpolate(sequence, size=num_cells, mode="linear").mT
    if "strong_head.weight" in tensors:
        outputs["logits"] = F.linear(cells, *_layer(tensors, "strong_head"))
    if "weak_head.weight" in tensors:
        name = "clip_logits" if "logits" in outputs else "logits"
        if clip_head == "attention":
            weights = F.linear(cells, *_layer(tensors, "weak_head")).softmax(-1).clamp(1e-7, 1)
            outputs[name] = ((outputs["logits"].sigmoid() * weights).sum(1) / weights.sum(1)).logit()
        else:
            outputs[name] = F.linear(cells.mean(1), *_layer(tensors, "weak_head"))
    return outputs


def spectrogram_start(tensors: Mapping[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """Return DeiT's tensors after AST's initialisation (ast_models.py:86-107), under DeiT's names.

    Args:
        tensors: `patch_embed.proj.weight` (D, 3, H, W) and `pos_embed` (1, 2 + n * n, D) among others.
        grid: Rows and columns of the patch grid.
    """
    positions = tensors["pos_embed"]
    side = round((positions.shape[1] - 2) ** 0.5)
    table = positions[:, 2:].mT.unflatten(2, (side, side))  # (1, D, n, n)
    rows, columns = grid
    if columns <= side:
        start = side // 2 - columns // 2
        table = table[:, :, :, start : start + columns]
    else:
        table = F.interpolate(table, size=(side, columns), mode="bilinear")
    if rows <= side:
        start = side // 2 - rows // 2
        table = table[:, :, start : start + rows]
    else:
        table = F.interpolate(table, size=(rows, columns), mode="bilinear")
    return {
        "patch_embed.proj.weight": tensors["patch_embed.proj.weight"].sum(dim=1).unsqueeze(1),
        "pos_embed": torch.cat((positions[:, :2], table.flatten(2).mT), dim=1),
    }


def _encode(tensors: Mapping[str, Tensor], patches: Tensor, num_heads: int) -> Tensor:
    """Encode patches without positions (B, D, F', T') to tokens (B, 2 + F' * T', D), as timm's ViT does."""
    prefix = torch.cat((tensors["cls_token"], tensors["dist_token"]), dim=1).expand(len(patches), -1, -1)
    if "pos_embed" in tensors:
        tokens = torch.cat((prefix, patches.flatten(2).mT), dim=1) + tensors["pos_embed"]
    else:
        columns = tensors["time_new_pos_embed"][:, :, :, : patches.shape[3]]
        patches = patches + tensors["freq_new_pos_embed"] + columns
        tokens = torch.cat((prefix + tensors["new_pos_embed"], patches.flatten(2).mT), dim=1)
    num_layers = sum(name.endswith(".attn.qkv.weight") for name in tensors)
    for number in range(num_layers):
        block = f"blocks.{number}"
        normed = _norm(tensors, f"{block}.norm1", tokens)
        qkv = F.linear(normed, *_layer(tensors, f"{block}.attn.qkv")).unflatten(2, (3, num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + F.linear(context, *_layer(tensors, f"{block}.attn.proj"))
        inner = F.gelu(F.linear(_norm(tensors, f"{block}.norm2", tokens), *_layer(tensors, f"{block}.mlp.fc1")))
        tokens = tokens + F.linear(inner, *_layer(tensors, f"{block}.mlp.fc2"))
    return _norm(tensors, "norm", tokens)


def _encode_torch_only(tensors: Mapping[str, Tensor], patches: Tensor, num_heads: int) -> Tensor:
    """Encode likewise for TorchOnlyAST, with torch's own encoder; its prefix tokens include their positions."""
    if "embedding.positional_embedding" in tensors:
        patches = patches + tensors["embedding.positional_embedding"]
    else:
        columns = tensors["embedding.time_embedding"][:, : patches.shape[3]]
        patches = patches + tensors["embedding.frequency_embedding"].unsqueeze(2) + columns.unsqueeze(1)
    prefix = torch.stack((tensors["embedding.cls_token"], tensors["embedding.dist_token"]))
    tokens = torch.cat((prefix.expand(len(patches), -1, -1), patches.flatten(2).mT), dim=1)
    width, hidden_size = tensors["backbone.layers.0.linear1.weight"].shape
    num_layers = sum(name.endswith(".linear1.weight") and name.startswith("backbone.") for name in tensors)
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(
            hidden_size, num_heads, width, activation="gelu", layer_norm_eps=ENCODER_EPS, batch_first=True,
            norm_first=True,
        )  # fmt: skip
        norm = nn.LayerNorm(hidden_size, eps=ENCODER_EPS)
        encoder = nn.TransformerEncoder(layer, num_layers, norm, enable_nested_tensor=False)
    backbone = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    encoder.load_state_dict(backbone, assign=True)
    return encoder.eval()(tokens)


def _layer(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _norm(tensors: Mapping[str, Tensor], name: str, values: Tensor, eps: float = ENCODER_EPS) -> Tensor:
    return F.layer_norm(values, values.shape[-1:], *_layer(tensors, name), eps)
