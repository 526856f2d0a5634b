"""Token merging at inference: similar patch tokens become one (Bolya et al. 2023, https://arxiv.org/abs/2210.09461).

Differences from the paper: tokens are compared after a layer instead of by the keys in it, and a merged token counts
once in attention, so that every attention kernel stays usable.
"""

import torch
from torch import Tensor, nn


def merge_tokens(
    tokens: Tensor, sizes: Tensor | None, *, num_merged: int, num_prefix_tokens: int
) -> tuple[Tensor, Tensor]:
    """Merge patch tokens by bipartite soft matching.

    Every second patch token is paired with the most similar one among the others; the `num_merged` most similar pairs
    are replaced by their means, weighted by the number of patches that each token stands for.

    Args:
        tokens: Prefix tokens, then patches, shape (B, P + K, D).
        sizes: Patches that each of the K patch tokens stands for, shape (B, K); one each if None.
        num_merged: Pairs to merge, at most K // 2.
        num_prefix_tokens: P; prefix tokens are never merged.

    Returns:
        Tokens (B, P + K - num_merged, D), in another order than before, and their sizes (B, K - num_merged).
    """
    prefix, patches = tokens[:, :num_prefix_tokens], tokens[:, num_prefix_tokens:]
    # At least float32: bfloat16 cannot represent every number of patches
    weights = patches.new_ones(patches.shape[:2], dtype=torch.float32) if sizes is None else sizes
    sources, targets = patches[:, ::2], patches[:, 1::2]
    similarity = nn.functional.normalize(sources, dim=-1) @ nn.functional.normalize(targets, dim=-1).mT
    best, partner = similarity.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)
    merged, kept = order[:, :num_merged], order[:, num_merged:].sort(dim=-1).values
    partner = partner.gather(1, merged)

    source_weights, target_weights = weights[:, ::2], weights[:, 1::2]
    merged_weights = source_weights.gather(1, merged)
    total_weights = target_weights.scatter_add(1, partner, merged_weights)
    total = (targets * target_weights.unsqueeze(-1)).scatter_add(
        1, _columns(partner, targets), _rows(sources, merged) * merged_weights.unsqueeze(-1)
    )
    means = (total / total_weights.unsqueeze(-1)).to(tokens.dtype)
    return (
        torch.cat((prefix, _rows(sources, kept), means), dim=1),
        torch.cat((source_weights.gather(1, kept), total_weights), dim=1),
    )


def _columns(indices: Tensor, like: Tensor) -> Tensor:
    return indices.unsqueeze(-1).expand(-1, -1, like.shape[-1])


def _rows(tokens: Tensor, indices: Tensor) -> Tensor:
    """The tokens (B, R, D) at indices (B, R)."""
    return tokens.gather(1, _columns(indices, tokens))
