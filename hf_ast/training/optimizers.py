"""An optimiser for small models and short training runs."""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

MOMENTUM = 0.95
LEARNING_RATE = 4e-3


def orthogonalized(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices (N, R, C) near 1, by five Newton-Schulz steps.

    As in Muon (https://kellerjordan.github.io/posts/muon), but in float32: `torch.optim.Muon` iterates in bfloat16,
    which is several times slower on processors without units for it, and takes one matrix at a time.
    """
    matrices = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=1e-7)
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.mT if is_tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the weight matrices of the encoder, AdamW for all other parameters.

    Small models reach the same accuracy with fewer clips than with AdamW alone. The `state_dict` holds the moments of
    both optimisers, so that a resumed run continues exactly.

    Args:
        model: A model of this package.
        learning_rate: Learning rate of Muon; that of AdamW is three eighths of it.
        weight_decay: Weight decay of both optimisers; norms and biases are not decayed.
    """

    def __init__(self, model: PreTrainedModel, learning_rate: float = LEARNING_RATE, weight_decay: float = 0.05):
        matrices = [p for p in model.base_model.get_submodule("layers").parameters() if p.ndim == 2]
        in_muon = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in in_muon]
        decayed, not_decayed = [p for p in others if p.ndim > 1], [p for p in others if p.ndim < 2]
        self.adamw = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": weight_decay}, {"params": not_decayed, "weight_decay": 0.0}],
            lr=0.375 * learning_rate,
        )
        muon = {"params": matrices, "lr": learning_rate, "weight_decay": weight_decay}
        super().__init__([muon, *self.adamw.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters, with the learning rates that a schedule has set.

        Args:
            closure: Computes the loss and its gradients again, if given; its result is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.step_muon()
        # State and groups belong to this class, which saves them; loading replaces the objects
        self.adamw.state, self.adamw.param_groups = self.state, self.param_groups[1:]
        self.adamw.step()
        return loss

    @torch.no_grad()
    def step_muon(self) -> None:
        """Update the matrices of the encoder, all of the same shape together."""
        group = self.param_groups[0]
        of_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                of_shape[tuple(parameter.shape)].append(parameter)
        for shape, parameters in of_shape.items():
            updates = torch.stack([self.with_momentum(parameter) for parameter in parameters])
            # The root mean square of AdamW's updates (Moonlight, https://arxiv.org/abs/2502.16982, section 2.2)
            rate = group["lr"] * 0.2 * max(shape) ** 0.5
            for parameter, update in zip(parameters, orthogonalized(updates), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def with_momentum(self, parameter: Tensor) -> Tensor:
        """Update the running mean of a parameter's gradient, and return its look-ahead (Nesterov)."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(mean, MOMENTUM)
