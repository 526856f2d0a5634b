"""An optimiser for small models and short trainings."""

from collections.abc import Callable

import torch
from transformers import PreTrainedModel


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the weight matrices of the encoder, AdamW for all other parameters.

    Small models reach the same accuracy with fewer clips than with AdamW alone. The `state_dict` holds the moments of
    both optimisers, so that a resumed training continues exactly.

    Args:
        model: A model of this package.
        weight_decay: Weight decay of both optimisers; norms and biases are not decayed.
    """

    def __init__(self, model: PreTrainedModel, weight_decay: float = 0.05):
        matrices = [p for p in model.base_model.get_submodule("layers").parameters() if p.ndim == 2]
        in_muon = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in in_muon]
        decayed, not_decayed = [p for p in others if p.ndim > 1], [p for p in others if p.ndim < 2]
        self.muon = torch.optim.Muon(matrices, lr=4e-3, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": weight_decay}, {"params": not_decayed, "weight_decay": 0.0}],
            lr=1.5e-3,
        )
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters, with the learning rates that a schedule has set.

        Args:
            closure: Computes the loss and its gradients again, if given; its result is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # State and groups belong to this class, which saves them; loading replaces the objects
        self.muon.state = self.adamw.state = self.state
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self.muon.step()
        self.adamw.step()
        return loss
