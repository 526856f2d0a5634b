"""From tokens to one vector per clip."""

import torch
from torch import Tensor

from .modules_cells import resample_cells

POOLINGS = ("prefix", "cls", "mean", "cells")


def pool_tokens(
    tokens: Tensor,
    pooling: str,
    num_prefix_tokens: int,
    patch_mask: Tensor | None = None,
    *,
    num_cells: int | None = None,
) -> Tensor:
    """Pool the tokens of each clip.

    Args:
        tokens: Normalised output of the encoder, shape (B, N, D), prefix tokens first.
        pooling: "prefix" (mean of the cls and distillation token; AST, PaSST), "cls" (the first token), or
            "mean" (mean of the real patch tokens; SSAST's `ft_avgtok`), or "cells" (mean of the patch tokens of a
            single row after `resample_cells`; fPaSST).
        num_prefix_tokens: P.
        patch_mask: True for real patches, or the weight of each, shape (B, N - P); all count equally if None. At
            least one per clip must count. With "cells", real patches come first.
        num_cells: Cells of every clip, for "cells"; one per patch if None.

    Returns:
        Pooled vectors, shape (B, D).
    """
    if pooling == "prefix":
        return tokens[:, :num_prefix_tokens].mean(dim=1)
    if pooling == "cls":
        return tokens[:, 0]
    if pooling == "cells" and num_cells is not None:
        return resample_cells(tokens[:, num_prefix_tokens:], num_cells, patch_mask).mean(dim=1)
    if pooling not in ("mean", "cells"):
        raise ValueError(f"pooling={pooling!r} is unknown; choose one of {POOLINGS}.")
    patches = tokens[:, num_prefix_tokens:]
    if patch_mask is None:
        return patches.mean(dim=1)
    # In at least float32: bfloat16 cannot represent every number of patches
    dtype = torch.promote_types(patches.dtype, torch.float32)
    total = (patches * patch_mask.unsqueeze(-1)).sum(dim=1, dtype=dtype)
    return (total / patch_mask.sum(dim=1, keepdim=True)).to(patches.dtype)
