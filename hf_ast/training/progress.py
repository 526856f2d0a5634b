"""What one sees of a training: a bar in a terminal, else a few plain lines; and whether it ended too early."""

import sys
from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

# Without a bar there is a line per epoch, and for long epochs one after so many steps
STEPS_PER_LINE = 1000
# Share by which the last quarter of the losses must be below all earlier ones to count as falling
LEAST_FALL = 0.05
STILL_FALLING = (
    "The loss was still falling when the training ended, so more epochs (--epochs) may give a better result."
)


class Progress(TrainerCallback):
    """Shows loss, learning rate and the time left, instead of the callbacks of `Trainer`.

    Args:
        trainer: A `GuardedTrainer`.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.bar: tqdm | None = None
        self.known: dict[str, float] = {}
        self.line_at = 0

    @classmethod
    def watch(cls, trainer: Any) -> None:
        """Show the progress of a trainer in this way only."""
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(cls(trainer))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar, where resumed training continues."""
        self.line_at = state.global_step
        if not args.disable_tqdm and state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="Training", unit="step")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        if self.bar is not None:
            rate = kwargs["lr_scheduler"].get_last_lr()[0] * self.trainer.rate_scale
            self.bar.set_postfix_str(f"loss {self.trainer.last_loss:.4g}, rate {rate:.3g}", refresh=False)
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Print a line if there is no bar, and an epoch has passed."""
        self.known |= kwargs["logs"]
        is_end = "train_runtime" in kwargs["logs"]
        per_epoch = state.max_steps / max(state.num_train_epochs, 1)
        is_due = state.global_step - self.line_at >= min(per_epoch, STEPS_PER_LINE) - 1e-6
        # An evaluation follows the loss of its step
        complete = args.eval_strategy == "no" or "eval_loss" in kwargs["logs"]
        if args.disable_tqdm and state.is_world_process_zero and ((is_due and complete) or is_end):
            if state.global_step > self.line_at:
                print(describe(self.known, state), file=sys.stderr, flush=True)
            self.line_at = state.global_step

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def describe(known: dict[str, float], state: TrainerState) -> str:
    """Return a line about a step, from what was logged."""
    parts = [f"step {state.global_step} of {state.max_steps}, epoch {state.epoch or 0:.4g}"]
    hidden = ("eval_loss", "eval_rating", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    names = {"loss": "loss", "learning_rate": "rate", "eval_loss": "validation loss"}
    names |= {
        name: name.removeprefix("eval_").replace("_", " ")
        for name in known
        if name.startswith("eval_") and name not in hidden
    }
    parts += [f"{title} {known[name]:.4g}" for name, title in names.items() if name in known]
    return ": ".join((parts[0], ", ".join(parts[1:])))


def losses(state: TrainerState) -> list[float]:
    """Return the losses on the validation recordings, or, where there are none, those of the training."""
    for name in ("eval_loss", "loss"):
        if found := [entry[name] for entry in state.log_history if name in entry]:
            return found
    return []


def is_still_falling(losses: Sequence[float]) -> bool:
    """Whether a loss was still falling when the training ended, so that a longer one may give more."""
    start = len(losses) - max(1, len(losses) // 4)
    return len(losses) >= 4 and min(losses[start:]) < (1 - LEAST_FALL) * min(losses[:start])
