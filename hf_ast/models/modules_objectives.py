"""Objectives of SSAST (https://arxiv.org/abs/2110.09784): tell the masked patches apart, and reconstruct them.

Both are computed from one forward pass, where the official code runs one for each (`mpc` and `mpg` in
src/models/ast_models.py), with separate masks. The clips of a batch may have different numbers of masked patches:
entries of -1 in `mask_indices` are left out of all losses and counts.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .modules_encoder import FeedForward
from .modules_masking import MaskSampler


class MaskedPatchOutput(NamedTuple):
    """Output of `MaskedPatchObjectives`; K is the number of masked patches, P the number of values per patch.

    Args:
        loss: Weighted sum of the two losses, 0-dim.
        classification_loss: InfoNCE loss, 0-dim; None if its weight is 0.
        reconstruction_loss: Mean squared error, 0-dim; None if its weight is 0.
        accuracy: Accuracy of the classification, in [0, 1], 0-dim; None if its loss is.
        classification_predictions: Shape (B, K, P); None if the loss is.
        reconstructions: Predicted values, shape (B, K, P); None if the loss is.
        targets: Values of the masked patches, mel bin by mel bin, shape (B, K, P).
        mask_indices: Row-major indices of the masked patches, shape (B, K); -1 for none.
        mask_lengths: Number of masked patches of each clip, shape (B,).
    """

    loss: Tensor
    classification_loss: Tensor | None
    reconstruction_loss: Tensor | None
    accuracy: Tensor | None
    classification_predictions: Tensor | None
    reconstructions: Tensor | None
    targets: Tensor
    mask_indices: Tensor
    mask_lengths: Tensor


class MaskedPatchObjectives(nn.Module):
    """Mask embedding, prediction heads and losses.

    Args:
        hidden_size: D.
        patch_size: Height and width of a patch (mel bins, frames).
        num_mask_patches, mask_ratio, mask_clusters, mask_sampler: See `modules_masking.MaskSampler`.
        classification_weight, reconstruction_weight: Weights of the losses. An objective of weight 0 has no head.
    """

    def __init__(
        self,
        hidden_size: int,
        patch_size: tuple[int, int],
        *,
        num_mask_patches: int = 400,
        mask_ratio: float | None = None,
        mask_clusters: bool = True,
        mask_sampler: str = "official",
        classification_weight: float = 1.0,
        reconstruction_weight: float = 10.0,
    ):
        super().__init__()
        if not classification_weight and not reconstruction_weight:
            raise ValueError("classification_weight and reconstruction_weight are both 0; one must be positive.")
        self.patch_size = patch_size
        self.draw_mask = MaskSampler(num_mask_patches, mask_ratio, mask_clusters, mask_sampler)
        self.classification_weight = classification_weight
        self.reconstruction_weight = reconstruction_weight

        self.mask_embedding = nn.Parameter(torch.zeros(1, 1, hidden_size))
        num_values = patch_size[0] * patch_size[1]
        self.classification_head, self.reconstruction_head = (
            FeedForward(hidden_size, hidden_size, activation="relu", output_size=num_values) if weight else None
            for weight in (classification_weight, reconstruction_weight)
        )

    def initialize(self, std: float) -> None:
        """Initialise the mask embedding as the official code does."""
        nn.init.normal_(self.mask_embedding, std=self.mask_embedding.shape[-1] ** -0.5)

    def forward(self, tokens: Tensor, input_values: Tensor, mask_indices: Tensor) -> MaskedPatchOutput:
        """Predict the masked patches.

        Args:
            tokens: Encoded patches, without prefix tokens, shape (B, N, D).
            input_values: The spectrograms they come from, shape (B, T, M). No gradient flows into them from here.
            mask_indices: Row-major indices of the masked patches, shape (B, K); -1 for none.
        """
        is_masked = mask_indices >= 0
        index = mask_indices.clamp(min=0)
        targets = patch_values(input_values.detach().float(), index, tokens.shape[1], self.patch_size)
        tokens = tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

        loss = torch.zeros((), device=tokens.device)
        scored = matching_loss = accuracy = rebuilt = squared_error = None
        if self.classification_head is not None:
            scored = self.classification_head(tokens)
            matching_loss, accuracy = info_nce(scored, targets, is_masked)
            loss = loss + self.classification_weight * matching_loss
        if self.reconstruction_head is not None:
            rebuilt = self.reconstruction_head(tokens)
            squared_error = reconstruction_loss(rebuilt, targets, is_masked)
            loss = loss + self.reconstruction_weight * squared_error
        return MaskedPatchOutput(
            loss, matching_loss, squared_error, accuracy, scored, rebuilt, targets, mask_indices, is_masked.sum(dim=1)
        )


# Field of a config -> argument of `MaskedPatchObjectives`
OBJECTIVES_ARGUMENTS = {
    "num_mask_patches": "num_mask_patches",
    "mask_ratio": "mask_ratio",
    "mask_clusters": "mask_clusters",
    "mask_sampler": "mask_sampler",
    "classification_loss_weight": "classification_weight",
    "reconstruction_loss_weight": "reconstruction_weight",
}


def info_nce(predictions: Tensor, targets: Tensor, is_masked: Tensor) -> tuple[Tensor, Tensor]:
    """Find each masked patch's own prediction among those for the other masked patches of its clip.

    The score of a pair is the dot product, without temperature or normalisation. As in the official code, the softmax
    runs over the predictions, where equation 1 of the paper has the targets (ssast#13).

    Args:
        predictions, targets: Shape (B, K, P).
        is_masked: False where fewer than K patches of a clip are masked, shape (B, K).

    Returns:
        The loss, and the accuracy as the official code defines it (`best_targets`); both means over masked patches.
    """
    log_probabilities = pair_log_probabilities(predictions, targets, is_masked)
    own = log_probabilities.diagonal(dim1=1, dim2=2).masked_fill(~is_masked, 0.0)
    found = best_targets(log_probabilities, is_masked) == torch.arange(is_masked.shape[1], device=is_masked.device)
    num_masked = is_masked.sum().clamp(min=1)
    return -own.sum() / num_masked, (found & is_masked).sum() / num_masked


def pair_log_probabilities(predictions: Tensor, targets: Tensor, is_masked: Tensor) -> Tensor:
    """Log-probability that a prediction belongs to a target, (B, K targets, K predictions); see `info_nce`."""
    # In float32 even under autocast, which would round the factors of the product
    with torch.autocast(targets.device.type, enabled=False):
        scores = targets @ predictions.float().transpose(1, 2)
    return scores.masked_fill(~is_masked.unsqueeze(1), torch.finfo(scores.dtype).min).log_softmax(dim=-1)


def best_targets(log_probabilities: Tensor, is_masked: Tensor) -> Tensor:
    """For each prediction, the target that gives it the largest probability, shape (B, K).

    Not the argmax of any one distribution: the official accuracy takes the softmax over the predictions and then the
    argmax over the targets (ast_models.py:351). Its logs and paper report this number, so we keep it.
    """
    # Probabilities, not their logarithms: where all underflow to 0, the official argmax is the first index
    probabilities = log_probabilities.detach().exp()
    return probabilities.masked_fill(~is_masked.unsqueeze(2), -1.0).argmax(dim=1)


def reconstruction_loss(predictions: Tensor, targets: Tensor, is_masked: Tensor) -> Tensor:
    """Mean squared error over the values of the masked patches; shapes as in `info_nce`."""
    squared_error = (predictions.float() - targets).square().mean(dim=-1)
    return squared_error.masked_fill(~is_masked, 0.0).sum() / is_masked.sum().clamp(min=1)


def patch_values(input_values: Tensor, patch_indices: Tensor, num_patches: int, patch_size: tuple[int, int]) -> Tensor:
    """Values of some patches, in the order of their predictions: mel bin by mel bin.

    Args:
        input_values: Spectrograms, shape (B, T, M).
        patch_indices: Row-major indices in the grid of patches, which do not overlap, shape (B, K).
        num_patches: Number of patches in the grid, which may end before the spectrogram does.
        patch_size: Mel bins and frames of a patch.

    Returns:
        Shape (B, K, P), P = mel bins times frames of a patch.
    """
    height, width = patch_size
    patches = input_values.transpose(1, 2).unfold(1, height, height).unfold(2, width, width)
    num_columns = num_patches // patches.shape[1]
    clip = torch.arange(input_values.shape[0], device=input_values.device).unsqueeze(1)
    return patches[clip, patch_indices // num_columns, patch_indices % num_columns].flatten(2)
