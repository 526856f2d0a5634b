"""Schedules: the official learning rates, and patchout and drop path that change during training."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_ast.models.modules_encoder import DropPath, drop_path_rates
from hf_ast.models.modules_patchout import Patchout

# Steps of the official warm-up, and steps between changes of its learning rate
WARMUP_STEPS = 1000
WARMUP_INTERVAL = 50


def step_decay(
    optimizer: Optimizer,
    steps_per_epoch: int,
    *,
    first_epoch: int,
    every_epochs: int = 1,
    factor: float = 0.5,
    warmup: bool = False,
) -> LambdaLR:
    """The schedule of AST and SSAST (src/traintest.py) for `Trainer(optimizers=(optimizer, schedule))`.

    Args:
        optimizer: Its learning rates are the peaks.
        steps_per_epoch: Optimizer steps of an epoch, `len(trainer.get_train_dataloader())` divided by the gradient
            accumulation steps and rounded up.
        first_epoch: Number of finished epochs after which the rate falls for the first time.
        every_epochs: Epochs from one fall to the next.
        factor: Factor by which the rate is multiplied when it falls.
        warmup: See `step_decay_factor`.
    """
    factors = step_decay_factor(
        steps_per_epoch, first_epoch=first_epoch, every_epochs=every_epochs, factor=factor, warmup=warmup
    )
    return LambdaLR(optimizer, factors)


def step_decay_factor(
    steps_per_epoch: int, *, first_epoch: int, every_epochs: int = 1, factor: float = 0.5, warmup: bool = False
) -> Callable[[int], float]:
    """Factor of the learning rate, as a function of the number of finished optimizer steps.

    Args:
        steps_per_epoch, first_epoch, every_epochs, factor: See `step_decay`.
        warmup: Whether the rate climbs from 0 over the first 1000 steps, in stairs of 50 steps, as AST does on
            AudioSet. The official code sets the rate anew at each stair, and to its peak at the last one: falls before
            that have no lasting effect, which matters if an epoch has fewer than 1000 steps.

    Raises:
        ValueError: A number is not positive.
    """
    for name, value in (
        ("steps_per_epoch", steps_per_epoch),
        ("first_epoch", first_epoch),
        ("every_epochs", every_epochs),
        ("factor", factor),
    ):
        if value <= 0:
            raise ValueError(f"{name}={value} must be positive.")

    def falls(num_epochs: int) -> int:
        return 0 if num_epochs < first_epoch else (num_epochs - first_epoch) // every_epochs + 1

    def at(step: int) -> float:
        num_falls = falls(step // steps_per_epoch)
        if not warmup:
            return factor**num_falls
        stair = min(step, WARMUP_STEPS) // WARMUP_INTERVAL * WARMUP_INTERVAL
        return stair / WARMUP_STEPS * factor ** (num_falls - falls(stair // steps_per_epoch))

    return at


def exponential_warmup_linear_decay(
    optimizer: Optimizer,
    steps_per_epoch: int,
    *,
    warmup_epochs: int = 5,
    decay_start_epoch: int = 50,
    decay_epochs: int = 50,
    last_factor: float = 0.01,
) -> LambdaLR:
    """The schedule of PaSST (helpers/ramp.py), whose learning rate changes between epochs.

    Args:
        optimizer: Its learning rates are the peaks.
        steps_per_epoch: See `step_decay`.
        warmup_epochs: Epochs in which the rate climbs, by exp(-5 (1 - epoch / warmup_epochs)^2).
        decay_start_epoch: Epoch after which it falls linearly.
        decay_epochs: Epochs in which it falls.
        last_factor: Factor that remains.
    """

    def at(step: int) -> float:
        epoch = step // steps_per_epoch
        rise = 1.0
        if epoch < warmup_epochs:
            rise = math.exp(-5.0 * (1.0 - max(epoch, 0.5) / warmup_epochs) ** 2)
        share = min(max((epoch - decay_start_epoch) / decay_epochs, 0.0), 1.0)
        return rise * (1.0 - (1.0 - last_factor) * share)

    return LambdaLR(optimizer, at)


def warmup_cosine(optimizer: Optimizer, num_steps: int, *, warmup: float = 0.1) -> LambdaLR:
    """A linear rise to the peak, and a cosine down to almost 0. No step has the rate 0, not even a single one.

    Args:
        optimizer: Its learning rates are the peaks.
        num_steps: Optimizer steps of the whole training.
        warmup: Share of the steps in which the rate rises.
    """
    num_rising = max(1, round(warmup * num_steps))

    def at(step: int) -> float:
        if step < num_rising:
            return (step + 1) / num_rising
        share = (step - num_rising + 1) / (num_steps - num_rising + 1)
        return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    return LambdaLR(optimizer, at)


class StopWithoutProgress(TrainerCallback):
    """Ends a training in which neither metric nor loss have been better than ever before for a share of all steps.

    It depends on the logged evaluations alone, so that an interrupted run ends where it would have ended.

    Args:
        patience: That share, in (0, 1].
        metric: Name of the metric, of which more is better.
    """

    def __init__(self, patience: float, metric: str):
        if not 0 < patience <= 1:
            raise ValueError(f"patience={patience} must be in (0, 1], a share of the training.")
        self.patience = patience
        self.metric = metric

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop if it is time."""
        found = [entry for entry in state.log_history if "eval_loss" in entry]
        if not found:
            return
        # The first of several that are equal
        best = max(found, key=lambda entry: entry[f"eval_{self.metric}"])["step"]
        lowest = min(found, key=lambda entry: entry["eval_loss"])["step"]
        if found[-1]["step"] - max(best, lowest) >= self.patience * state.max_steps:
            control.should_training_stop = True

    on_epoch_begin = on_save  # a run that ended in this way, and is resumed, has ended


class PatchoutSchedule(TrainerCallback):
    """Changes the number of dropped patches, and the drop-path rate, linearly during training.

    The numbers depend on the step alone, so that an interrupted run continues with the right ones. The config of the
    model is left unchanged, and after training the model drops what its config says again. Under torch.compile, every
    new number of patches is compiled anew.

    Args:
        time_patchout, frequency_patchout, unstructured_patchout: Columns, rows and patches to drop at the start and at
            the end of the schedule, such as `(0, 40)`; rounded to integers. None leaves the model's own.
        drop_path_rate: Rates of the last layer at both ends.
        until: Fraction of the training after which the second numbers are reached and stay, in (0, 1].

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        *,
        time_patchout: tuple[int, int] | None = None,
        frequency_patchout: tuple[int, int] | None = None,
        unstructured_patchout: tuple[int, int] | None = None,
        drop_path_rate: tuple[float, float] | None = None,
        until: float = 1.0,
    ):
        if not 0 < until <= 1:
            raise ValueError(f"until={until} must be in (0, 1], a fraction of the training.")
        given = {
            "time_patchout": time_patchout,
            "frequency_patchout": frequency_patchout,
            "unstructured_patchout": unstructured_patchout,
        }
        self.numbers = {name: ends for name, ends in given.items() if ends is not None}
        for name, ends in (*self.numbers.items(), ("drop_path_rate", drop_path_rate or (0.0, 0.0))):
            if min(ends) < 0 or (name == "drop_path_rate" and max(ends) >= 1):
                raise ValueError(f"{name}={ends} must not be negative, and rates must be below 1.")
        self.drop_path_rate = drop_path_rate
        self.until = until
        self._own: list[tuple[dict[str, int], dict[str, int]]] = []
        self._own_rates: list[tuple[DropPath, float]] = []

    def at(self, share: float) -> dict[str, float]:
        """Return the numbers at a fraction of the training, in [0, 1]."""
        progress = min(share / self.until, 1.0)
        values: dict[str, float] = {
            name: round(first + (last - first) * progress) for name, (first, last) in self.numbers.items()
        }
        if self.drop_path_rate:
            first_rate, last_rate = self.drop_path_rate
            values["drop_path_rate"] = first_rate + (last_rate - first_rate) * progress
        return values

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the model's own numbers."""
        patchouts = [module for module in _modules(model) if isinstance(module, Patchout)]
        self._own = [(module.numbers, dict(module.numbers)) for module in patchouts]
        paths = [module for module in _modules(model) if isinstance(module, DropPath)]
        self._own_rates = [(module, module.probability) for module in paths]
        if not patchouts:
            raise ValueError("model has no patchout; PatchoutSchedule is for models of hf_ast.")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the numbers of this step."""
        values = self.at(state.global_step / max(1, state.max_steps - 1))
        rate = values.pop("drop_path_rate", None)
        for numbers, _ in self._own:
            numbers.update({name: int(value) for name, value in values.items()})
        if rate is not None:
            rates = drop_path_rates(rate, len(self._own_rates))
            for (module, _), of_layer in zip(self._own_rates, rates, strict=True):
                module.probability = of_layer

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the model's own numbers."""
        for numbers, own in self._own:
            numbers.update(own)
        for module, own_rate in self._own_rates:
            module.probability = own_rate


def _modules(model: nn.Module | None) -> Sequence[nn.Module]:
    return [] if model is None else list(model.modules())
