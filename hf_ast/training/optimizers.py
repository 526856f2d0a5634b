"""An optimiser for small models and short trainings."""

import torch
from transformers import PreTrainedModel


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices of the encoder, AdamW for the rest: fewer clips for the same accuracy than AdamW alone.

    Args:
        model: One of ours.
        weight_decay: Of both.
    """

    def __init__(self, model: PreTrainedModel, weight_decay: float = 0.05):
        matrices = [p for p in model.base_model.layers.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
        self.parts = (
            torch.optim.Muon(matrices, lr=4e-3, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=1.5e-3, weight_decay=weight_decay),
        )
        super().__init__([{"params": matrices, "lr": 4e-3}, {"params": others, "lr": 1.5e-3}], {})

    def step(self, closure: None = None) -> None:
        """Update with the learning rates that a schedule has set; one group per part."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()
