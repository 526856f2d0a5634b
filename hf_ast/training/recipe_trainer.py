"""`Trainer` with the optimiser, the schedule and the rating of a recipe, and its arguments."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from .baselines import error_of_share
from .devices import device_arguments
from .guards import GuardedTrainer
from .output import CHECKPOINTS
from .parameter_groups import parameter_groups
from .presets import Preset
from .sampling import EvenOrder
from .schedules import exponential_warmup_linear_decay, step_decay, warmup_cosine

# Standard errors of the metric by which the last state is favoured over the first one
LATE_ERRORS = 2.0


class RecipeTrainer(GuardedTrainer):
    """`Trainer` for `TrainingRows`, with the optimiser and the schedule of a preset.

    Args:
        preset: The preset.
        main_metric: The metric by which checkpoints are rated.
        args, kwargs: Arguments of `Trainer`.
    """

    def __init__(self, *args: Any, preset: Preset, main_metric: str, **kwargs: Any):
        self.preset = preset
        self.main_metric = main_metric
        super().__init__(*args, **kwargs)
        if self.is_fsdp_enabled:
            # `Trainer` makes no model from sharded states, and its processes may disagree on which one is the best, as
            # each looks for the folder while another one is making it
            self.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate as `Trainer` does, and rate the checkpoint."""
        metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        metrics[f"{metric_key_prefix}_rating"] = rating(
            metrics[f"{metric_key_prefix}_{self.main_metric}"],
            metrics[f"{metric_key_prefix}_loss"],
            num_recordings=len(rows),
            progress=self.state.global_step / max(1, self.state.max_steps),
        )
        return metrics

    def _get_train_sampler(self, train_dataset: Any = None) -> EvenOrder:
        """Return the order of an epoch, which is the same for any number of processes."""
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        is_alone = self.args.world_size == 1
        return EvenOrder(rows, 1 if is_alone else self.args.train_batch_size * self.args.world_size)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimiser, with the learning rates of layers and head."""
        if self.optimizer is None:
            network: Any = self.model if model is None else model
            groups = parameter_groups(
                network,
                self.args.learning_rate,
                layer_decay=self.preset.layer_decay,
                head_multiplier=self.preset.head_multiplier,
                weight_decay=self.preset.weight_decay,
            )
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, network)
            self.optimizer = optimizer_class(groups, **settings)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Make the schedule of the preset."""
        if self.lr_scheduler is None:
            own: Any = self.optimizer if optimizer is None else optimizer
            per_epoch = max(1, round(num_training_steps / self.args.num_train_epochs))
            settings = self.preset.schedule_settings
            self.lr_scheduler = {
                "cosine": lambda: warmup_cosine(own, num_training_steps, **settings),
                "steps": lambda: step_decay(own, per_epoch, **settings),
                "ramp": lambda: exponential_warmup_linear_decay(own, per_epoch, **settings),
            }[self.preset.schedule]()
        return self.lr_scheduler


def rating(metric: float, loss: float, *, num_recordings: int, progress: float) -> float:
    """Rate a checkpoint by its metric, with an advance for late ones.

    The best of many figures on few recordings owes much to luck, and weights that the falling learning rate has let
    settle are better than they look. So a state at the end of the training is favoured over one at its beginning, by
    two standard errors. Of those that tie nevertheless, the one with the lowest loss is the best.

    Args:
        metric, loss: On the validation recordings.
        num_recordings: The number of these.
        progress: Share of the training, in [0, 1].
    """
    return (
        metric
        + LATE_ERRORS * error_of_share(metric * num_recordings, num_recordings) * progress
        - 1e-6 * loss / (1 + loss)
    )


def training_arguments(
    output: Path, preset: Preset, *, eval_every: int, has_validation: bool, **settings: Any
) -> TrainingArguments:
    """Return the arguments of `Trainer` for a preset.

    Args:
        output: Folder for the result.
        preset: The preset, of which `num_epochs` counts, not `min_steps`.
        eval_every: Steps between evaluations, and between saved states.
        has_validation: Whether there are recordings to evaluate on.
        settings: Other arguments.
    """
    keeps_best = has_validation and preset.average_from_epoch is None
    return TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        learning_rate=preset.learning_rate,
        num_train_epochs=preset.num_epochs,
        per_device_train_batch_size=preset.batch_size,
        per_device_eval_batch_size=preset.batch_size,
        adam_beta1=preset.adam_beta1,
        weight_decay=preset.weight_decay,
        max_grad_norm=preset.max_grad_norm,
        eval_strategy="steps" if has_validation else "no",
        eval_steps=eval_every,
        save_strategy="steps",
        save_steps=eval_every,
        logging_strategy="steps",
        logging_steps=eval_every,
        logging_nan_inf_filter=False,  # a loss that is not finite ends the training
        save_total_limit=2,
        load_best_model_at_end=keeps_best,
        metric_for_best_model="rating" if keeps_best else None,
        greater_is_better=True if keeps_best else None,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        **device_arguments() | settings,
    )
