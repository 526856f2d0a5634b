"""From tokens to one vector per clip."""

import torch
from torch import Tensor

POOLINGS = ("prefix", "cls", "mean")


def pool_tokens(tokens: Tensor, pooling: str, num_prefix_tokens: int, patch_mask: Tensor | None = None) -> Tensor:
    """Pool the tokens of each clip.

    Args:
        tokens: Normalised output of the encoder, shape (B, N, D), prefix tokens first.
        pooling: "prefix" (mean of the cls and distillation token; AST, PaSST), "cls" (the first token), or
            "mean" (mean of the real patch tokens; SSAST's `ft_avgtok`).
        num_prefix_tokens: P.
        patch_mask: True for real patches, or the weight of each, shape (B, N - P); all count equally if None. At
            least one per clip must count.

    Returns:
        Pooled vectors, shape (B, D).
    """
    if pooling == "prefix":
        return tokens[:, :num_prefix_tokens].mean(dim=1)
    if pooling == "cls":
        return tokens[:, 0]
    if pooling != "mean":
        raise ValueError(f"pooling={pooling!r} is unknown; choose one of {POOLINGS}.")
    patches = tokens[:, num_prefix_tokens:]
    if patch_mask is None:
        return patches.mean(dim=1)
    # In at least float32: bfloat16 cannot represent every number of patches
    dtype = torch.promote_types(patches.dtype, torch.float32)
    total = (patches * patch_mask.unsqueeze(-1)).sum(dim=1, dtype=dtype)
    return (total / patch_mask.sum(dim=1, keepdim=True)).to(patches.dtype)
