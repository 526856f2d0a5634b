"""How alike the embeddings of recordings are. Needs the extra `plot` (matplotlib)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .style import VALUE, label_rows, set_title, square_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_similarity(
    embeddings: Tensor, names: Sequence[str], *, keep_order: bool = False, title: str | None = None
) -> "Figure":
    """Plot the cosine similarity of each pair of embeddings.

    Args:
        embeddings: Of N recordings, as `hf_ast.scene_embeddings` gives them, shape (N, D).
        names: Names of the recordings, N.
        keep_order: Whether to keep the order of the recordings, instead of placing similar ones side by side.
        title: Above the figure; what it shows if None.

    Returns:
        A matplotlib figure; `figure.savefig("similarity.png")` writes it.

    Raises:
        ValueError: The embeddings are not of shape (N, D) for these names, or one of them is zero or not finite.
    """
    embeddings = torch.as_tensor(embeddings)
    if embeddings.ndim != 2 or len(embeddings) != len(names) or len(names) == 0:
        raise ValueError(
            f"embeddings has shape {tuple(embeddings.shape)}, but must have a row for each of the {len(names)} names."
        )
    similarity = cosine_similarity(embeddings)
    order = torch.arange(len(names)) if keep_order else similarity_order(similarity)
    shown = similarity[order][:, order]
    side = float(np.clip(0.25 * len(names), 3, 14))
    figure = square_figure(names, side)
    axes = figure.subplots()
    image = axes.imshow(shown.numpy(), cmap=VALUE, vmax=1, interpolation="nearest")
    ordered = [names[index] for index in order.tolist()]
    every = label_rows(axes.yaxis, ordered, side)
    label_rows(axes.xaxis, ordered, side, rotation=90)
    remarks = ["similar recordings are side by side"] * (not keep_order and len(names) > 2)
    remarks += [f"one in {every} is named"] * (every > 1)
    set_title(axes, title or f"Similarity of the embeddings of {len(names)} recordings", "; ".join(remarks))
    figure.colorbar(image, ax=axes, label="cosine similarity (1: the same direction)", shrink=0.7, pad=0.01, aspect=30)
    return figure


def cosine_similarity(embeddings: Tensor) -> Tensor:
    """Embeddings (N, D) -> cosine of the angle between each pair, shape (N, N), float32.

    Raises:
        ValueError: An embedding is zero, NaN or infinite, and so has no direction.
    """
    lengths = embeddings.double().norm(dim=1, keepdim=True)
    wrong = (~(lengths.isfinite() & (lengths > 0))).flatten().nonzero().flatten().tolist()
    if wrong:
        raise ValueError(f"embeddings has rows that are zero or not finite: {wrong[:10]}.")
    directions = embeddings.double() / lengths
    return (directions @ directions.T).clamp(-1, 1).float()


def similarity_order(similarity: Tensor) -> Tensor:
    """Order recordings so that similar ones are side by side, from their similarities (N, N).

    They are the leaves of a cluster tree by average linkage, in the order of the smallest sum of distances between
    neighbours (Bar-Joseph, Gifford and Jaakkola 2001).

    Returns:
        Numbers of the recordings, shape (N,).
    """
    if len(similarity) < 3:
        return torch.arange(len(similarity))
    try:
        from scipy.cluster.hierarchy import leaves_list, linkage
        from scipy.spatial.distance import squareform
    except ImportError as error:
        raise ImportError('Ordering recordings needs scipy: pip install "hf-ast[plot]"') from error
    distances = squareform((1 - similarity.double()).numpy(), checks=False)
    return torch.from_numpy(leaves_list(linkage(distances, method="average", optimal_ordering=True))).long()
