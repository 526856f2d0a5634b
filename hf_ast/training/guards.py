"""What keeps a training run whole: it stops when it diverges, and leaves a state when it is told to end."""

import math
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from hf_ast.whole import written_with_os_errors

from .averaging import checkpoint_folder
from .output import COMPLETE, save_result
from .progress import Progress

logger = logging.get_logger(__name__)

# As a shell reports a program that SIGTERM ended
TERMINATED = 128 + signal.SIGTERM
# Steps in a row that float16 may skip while it looks for a scale of the loss
MAX_SKIPPED = 30


def run_training(trainer: Trainer, output: Path, state: Path | None = None) -> None:
    """Train, from a saved state if one is given, and save the result.

    Raises:
        ValueError: The training diverged: a loss, a gradient or a weight is NaN or infinite. The last saved state is
            from before that. Also errors of processes that read audio, in one sentence.
        OSError: The disk is full, or a process that reads audio was killed.
        SystemExit: SIGTERM came, and a state was saved; with the status 143.
    """
    guard = RunGuard(trainer)
    Progress.watch(trainer)
    trainer.add_callback(guard)
    with written_with_os_errors(output), errors_of_workers():
        with guard.listening():
            trainer.train(resume_from_checkpoint=None if state is None else str(state))
        guard.end_if_told()
        model: Any = trainer.model
        if hasattr(model, "merge_and_unload"):  # adapters of peft
            trainer.model = model.merge_and_unload()
        save_result(trainer, output)


class GuardedTrainer(Trainer):
    """`Trainer` that stops at the first loss that is NaN or infinite, where `Trainer` logs another one instead.

    Attributes:
        last_loss: Loss of the last batch.
        rate_scale: The learning rate that the arguments name, divided by the one of the first parameter group.
    """

    last_loss = 0.0

    @property
    def rate_scale(self) -> float:
        """See above."""
        first = None if self.optimizer is None else self.optimizer.param_groups[0].get("initial_lr")
        return self.args.learning_rate / first if first else 1.0

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Train on a batch as `Trainer` does."""
        loss = super().training_step(*args, **kwargs)
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            raise ValueError(divergence("the loss is", self.state, self.last_loss))
        return loss

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train for an epoch as `Trainer` does, but not beyond the end of a finished run that is resumed."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as `Trainer` does, but the learning rate that the arguments name, of which those of layers are parts."""
        if "learning_rate" in logs:
            logs["learning_rate"] *= self.rate_scale
        super().log(logs, *args, **kwargs)


class RunGuard(TrainerCallback):
    """Checks gradients and weights, saves the first state early, and ends the run on SIGTERM with a state.

    It must be the last callback, because it marks a saved state as complete.

    Args:
        trainer: Whose processes and optimiser they are.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.num_skipped = 0
        self.is_told_to_end = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM as the wish to end after the current step."""
        if threading.current_thread() is not threading.main_thread():  # which alone can listen
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._note_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _note_signal(self, *_: Any) -> None:
        self.is_told_to_end = True

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the gradients before they reach the weights."""
        model: nn.Module = kwargs["model"]
        # In float16 infinite gradients belong to the search for a scale, and their steps are skipped
        if not args.fp16 and not are_finite(p.grad for p in model.parameters() if p.grad is not None):
            raise ValueError(divergence("a gradient is", state))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the weights, before they are saved; save the first state, and one if the run is to end."""
        model: nn.Module = kwargs["model"]
        self.num_skipped = self.num_skipped + 1 if self.trainer.accelerator.optimizer_step_was_skipped else 0
        if self.num_skipped > MAX_SKIPPED:
            raise ValueError(divergence(f"the gradients of {self.num_skipped} steps in a row are", state))
        if not are_finite(p for p in model.parameters() if p.requires_grad):
            raise ValueError(divergence("a weight is", state))
        self.is_told_to_end = self._any_process(self.is_told_to_end)
        if state.global_step == 1 or self.is_told_to_end:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the state as complete."""
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            (checkpoint_folder(args, state) / COMPLETE).touch()
        self.end_if_told()

    def end_if_told(self) -> None:
        """Raise SystemExit if SIGTERM came."""
        if self.is_told_to_end:
            step = self.trainer.state.global_step
            logger.warning(
                f"SIGTERM: ended after step {step}, whose state is saved; resume=True (--resume) continues."
            )
            raise SystemExit(TERMINATED)

    def _any_process(self, flag: bool) -> bool:
        """Whether a flag is set in any process, so that all of them end after the same step."""
        if self.trainer.args.world_size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.trainer.args.device)
        return bool(self.trainer.accelerator.reduce(value, "sum") > 0)


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no value is NaN or infinite; of sharded tensors, those of this process.

    One is in a tensor if it is in its sum, which takes a twentieth of the time of a look at each value.
    """
    own = [getattr(tensor, "to_local", lambda tensor=tensor: tensor)().detach() for tensor in tensors]
    sums = [part.sum(dtype=torch.float32) for part in own]
    return all(math.isfinite(total) for total in _together(sums))


def _together(sums: Sequence[Tensor]) -> list[float]:
    """Return numbers of one or several devices, waiting for each of these once."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for total in sums:
        by_device.setdefault(total.device, []).append(total)
    return [number for totals in by_device.values() for number in torch.stack(totals).tolist()]


def divergence(what: str, state: TrainerState, value: float | None = None) -> str:
    """Return the message about a value that is not finite."""
    return (
        f"The training diverged in step {state.global_step + (value is not None or 'gradient is' in what)}: {what} "
        f"{'NaN or infinite' if value is None else value}. Nothing later was saved; a smaller learning_rate "
        "(--learning-rate) may help, in a new folder."
    )


@contextmanager
def errors_of_workers() -> Iterator[None]:
    """Turn errors of processes that read audio, which come with their traceback, into one sentence."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, RuntimeError) and re.search(r"DataLoader worker .*(exited unexpectedly|killed)", text):
            raise OSError(
                "A process that reads audio was killed, perhaps because memory ran out; num_workers=0 (--num-workers "
                "0) reads without such processes."
            ) from error
        if "DataLoader worker" not in text or isinstance(error, RuntimeError):
            raise
        message = re.split(rf"\n(?:\w+\.)*{type(error).__name__}: ", text)[-1]
        raise type(error)(message.strip()) from error
