"""Fine-tune any of the models on labelled recordings: `hf-ast finetune DATA --model NAME --out DIR`.

`transformers.Trainer` does the work; this file puts its parts together. The result opens with
`pipeline("audio-classification")`, `hf-ast classify` and `from_pretrained`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging

from hf_ast.checkpoints import resolve_model
from hf_ast.data.labelled import LabelledData
from hf_ast.data.splitting import SPLITS, TEST, TRAIN, VALIDATION
from hf_ast.data.strong_labels import StronglyLabelledData
from hf_ast.inference.loading import load_classifier
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.whole import written_with_os_errors

from .augmentation import Augmentation
from .averaging import SWACallback
from .cards import TrainingFacts, source_license, write_results
from .clips import Clips
from .collation import TrainingCollator
from .damage import DamagedRecordings
from .devices import device_arguments
from .evaluate import Evaluation, evaluate
from .event_evaluation import EventEvaluation, choose_thresholds, evaluate_events
from .extras import expect_train
from .frames import EventLoss, TrainingParts, event_parts
from .metrics import compute_metrics, main_metric
from .output import (
    CHECKPOINTS,
    create_repository,
    expect_same_record,
    save_result,
    state_to_resume,
    upload,
    write_record,
)
from .parameter_groups import parameter_groups
from .preparation import STATS, default_stats, load_for_training, with_statistics
from .presets import DEFAULT_PRESET, Preset, find_preset
from .sampling import EvenOrder, TrainingRows, class_balanced_weights
from .schedules import exponential_warmup_linear_decay, step_decay

logger = logging.get_logger(__name__)

# Schedules besides those of transformers
SCHEDULES: dict[str, Callable[..., torch.optim.lr_scheduler.LambdaLR]] = {
    "steps": step_decay,
    "ramp": exponential_warmup_linear_decay,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class FineTuned:
    """The result of fine-tuning.

    Attributes:
        model, feature_extractor: As they are in the output folder.
        evaluation: On the test recordings, or, if there are none, on those for validation; None if there are neither,
            and in all processes but the first.
        split: The split of these recordings.
        is_main_process: Whether this is the process that reports, if training runs on several.
        damaged: Recordings that turned out to be damaged in training, and were left out of it.
    """

    model: PreTrainedModel
    feature_extractor: SpectrogramFeatureExtractor
    evaluation: Evaluation | EventEvaluation | None
    split: str | None
    is_main_process: bool = True
    damaged: list[str] = field(default_factory=list)


class RecipeTrainer(Trainer):
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
        """Evaluate as `Trainer` does, and rate the checkpoint.

        The rating is the main metric; among checkpoints that tie, as is common with few recordings, the one with the
        lowest loss has the best rating.
        """
        metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        loss = metrics[f"{metric_key_prefix}_loss"]
        metrics[f"{metric_key_prefix}_rating"] = metrics[f"{metric_key_prefix}_{self.main_metric}"] - 1e-6 * loss / (
            1 + loss
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
        """Make the schedule: an official one, or else the one that the arguments name."""
        if self.lr_scheduler is None and self.preset.schedule in SCHEDULES:
            num_steps_per_epoch = max(1, round(num_training_steps / self.args.num_train_epochs))
            make = SCHEDULES[self.preset.schedule]
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = make(optimizer, num_steps_per_epoch, **self.preset.schedule_settings)
        return super().create_scheduler(num_training_steps, optimizer)


class EventTrainer(EventLoss, RecipeTrainer):
    """`RecipeTrainer` for models of frames."""


def finetune(
    data: LabelledData,
    output: str | Path,
    *,
    model: str | Path,
    preset: str | Preset = DEFAULT_PRESET,
    num_epochs: float | None = None,
    batch_size: int | None = None,
    gradient_accumulation_steps: int = 1,
    learning_rate: float | None = None,
    duration_s: float | None = None,
    stats: str | None = None,
    eval_every: int | None = None,
    num_workers: int = 2,
    seed: int = 0,
    bf16: bool = False,
    device: str | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    token: str | bool | None = None,
    report_to: str = "none",
    resume: bool = False,
    push_to_hub: str | None = None,
    license: str | None = None,
    progress: bool = False,
    callbacks: list[TrainerCallback] | None = None,
) -> FineTuned:
    """Fine-tune a model, and save it with its feature extractor, a model card, a figure and the metrics.

    Args:
        data: The recordings; `hf_ast.data.labelled.read_data` finds them. With those of
            `hf_ast.data.strong_labels.read_events`, the model learns when something is heard.
        output: Folder for the result; `checkpoints` in it holds the states to resume from.
        model: A folder, the id of a model on the Hub, or any name of a released checkpoint: an AST, SSAST or PaSST,
            with a head or without one. A head for the same classes is kept, any other one is replaced.
        preset: Name of a recipe, or one of your own. The following arguments override its values.
        num_epochs: Number of epochs.
        batch_size: Recordings per forward pass and process.
        gradient_accumulation_steps: Forward passes per step.
        learning_rate: Peak learning rate of the backbone.
        duration_s: Length of the model's input; by default that of the longest recording, at most that of the
            checkpoint. Position tables are resized by the official rule.
        stats: Where the mean and standard deviation that normalise the input come from. "checkpoint": they stay as
            they are, because the weights were trained with them, and so that loud and quiet data stay apart. "data":
            those of the training recordings, as in the official AST code for every data set. By default what the
            preset says; for PaSST "checkpoint", as in its official code.
        eval_every: Steps between evaluations, and between saved states; an epoch by default.
        num_workers: Processes that read audio.
        seed: Seed of the head, the order of the recordings and the augmentation.
        bf16: The same as dtype="bfloat16".
        device, dtype: See `hf_ast.training.devices.device_arguments`.
        revision, token: As in `hf_ast.load_classifier`, for a model on the Hub.
        report_to: Where `Trainer` reports to: "none", "tensorboard", "wandb", ...
        resume: Continue from the last saved state in `output`, as if there had been no interruption.
        push_to_hub: Repository on the Hub, "owner/name", that the result is uploaded to.
        license: Licence for the model card, as the Hub names it, such as "cc-by-4.0"; by default that in the card of
            the model that it starts from, else "unknown".
        progress: Whether to show progress bars on stderr.
        callbacks: Other callbacks for `Trainer`.

    Raises:
        ValueError: An argument is wrong, there are no training recordings or only one class, `resume` finds no state
            or the data have changed, or, without `resume`, there are states of an earlier run.
    """
    expect_train()
    settings = find_preset(preset) if isinstance(preset, str) else preset
    changes: dict[str, Any] = {"learning_rate": learning_rate, "num_epochs": num_epochs, "batch_size": batch_size}
    settings = replace(settings, **{name: value for name, value in changes.items() if value is not None})
    _check_arguments(settings, data, stats)
    output = Path(output)
    on_device = device_arguments(device, "bfloat16" if bf16 else dtype)
    last = state_to_resume(output, resume)
    set_seed(seed)
    network, feature_extractor, data = load_for_training(
        model, data, settings, duration_s=duration_s, revision=revision, token=token
    )
    if last is not None:
        expect_same_record(output, _record(data), ("labels", "splits"))
        feature_extractor = type(feature_extractor).from_pretrained(last)
    elif (stats or default_stats(settings, feature_extractor)) == "data":
        feature_extractor = with_statistics(feature_extractor, data, seed=seed, progress=progress)
    arguments = training_arguments(
        output,
        data,
        settings,
        gradient_accumulation_steps=gradient_accumulation_steps,
        eval_every=eval_every,
        dataloader_num_workers=num_workers,
        seed=seed,
        report_to=report_to,
        disable_tqdm=not progress,
        **on_device,
    )
    trainer = make_trainer(network, feature_extractor, data, settings, arguments, callbacks=callbacks or [])
    if trainer.is_world_process_zero():
        if push_to_hub is not None:
            create_repository(push_to_hub)
        write_record(output, _record(data))
    with written_with_os_errors(output):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        save_result(trainer, output)
    facts = TrainingFacts(
        source=str(model),
        preset=preset if isinstance(preset, str) else "your own",
        settings=settings,
        num_steps=trainer.state.global_step,
        seed=seed,
        license=license or source_license(resolve_model(model, revision=revision, token=token), revision, token),
        license_is_inherited=license is None,
        best_step=trainer.state.best_global_step if arguments.load_best_model_at_end else None,
    )
    return _measured(trainer, feature_extractor, data, output, facts, push_to_hub=push_to_hub, progress=progress)


def _measured(
    trainer: RecipeTrainer,
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    output: Path,
    facts: TrainingFacts,
    *,
    push_to_hub: str | None,
    progress: bool,
) -> FineTuned:
    """Evaluate the saved model in the first process, write what is known about it, and upload it."""
    network: Any = trainer.accelerator.unwrap_model(trainer.model)
    split = next((name for name in (TEST, VALIDATION) if data.of(name)), None)
    is_main_process = trainer.is_world_process_zero()
    evaluation = None
    if is_main_process:
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # this process has only a part of the weights
            network = load_classifier(output, frames=isinstance(data, StronglyLabelledData))[0]
            network.to(trainer.args.device)
        batch_size = trainer.args.per_device_eval_batch_size
        if isinstance(data, StronglyLabelledData):
            network.config.event_thresholds = choose_thresholds(
                network, feature_extractor, data, split=VALIDATION, batch_size=batch_size
            )
            network.config.save_pretrained(output)
        if split is not None:
            measure: Any = evaluate_events if isinstance(data, StronglyLabelledData) else evaluate
            evaluation = measure(
                network, feature_extractor, data, split=split, batch_size=batch_size, progress=progress
            )
        write_results(output, network, feature_extractor, data, evaluation, split, facts, repo_id=push_to_hub)
        if push_to_hub is not None:
            upload(output, push_to_hub, "Fine-tuned by hf-ast")
    return FineTuned(
        model=network,
        feature_extractor=feature_extractor,
        evaluation=evaluation,
        split=split,
        is_main_process=is_main_process,
        damaged=[
            name
            for callback in trainer.callback_handler.callbacks
            if isinstance(callback, DamagedRecordings)
            for name in callback.names()
        ],
    )


def training_arguments(
    output: Path,
    data: LabelledData,
    preset: Preset,
    *,
    eval_every: int | None = None,
    **settings: Any,
) -> TrainingArguments:
    """Return the arguments of `Trainer` for a preset; `settings` are other arguments."""
    has_validation = bool(data.of(VALIDATION))
    keeps_best = has_validation and preset.average_from_epoch is None
    when = "epoch" if eval_every is None else "steps"
    return TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        learning_rate=preset.learning_rate,
        num_train_epochs=preset.num_epochs,
        per_device_train_batch_size=preset.batch_size,
        per_device_eval_batch_size=preset.batch_size,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        adam_beta1=preset.adam_beta1,
        weight_decay=preset.weight_decay,
        max_grad_norm=preset.max_grad_norm,
        eval_strategy=when if has_validation else "no",
        save_strategy=when,
        eval_steps=eval_every,
        save_steps=500 if eval_every is None else eval_every,
        logging_strategy=when,
        logging_steps=500 if eval_every is None else eval_every,
        save_total_limit=2,
        load_best_model_at_end=keeps_best,
        metric_for_best_model="rating" if keeps_best else None,
        greater_is_better=True if keeps_best else None,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        **device_arguments() | settings,
    )


def make_trainer(
    network: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    preset: Preset,
    arguments: TrainingArguments,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> RecipeTrainer:
    """Put the parts together: recordings, augmentation, batches, metrics, averaging."""
    augmentation = preset.augmentation(feature_extractor)
    trainer_class = RecipeTrainer
    if isinstance(data, StronglyLabelledData):
        trainer_class = EventTrainer
        config: Any = network.config
        parts = event_parts(config, feature_extractor, data, augmentation, arguments.seed)
    else:
        parts = _clip_parts(feature_extractor, data, preset, augmentation, arguments.seed)
    clips, rows, collator, metrics = parts
    averaging = []
    if preset.average_from_epoch is not None:
        averaging = [SWACallback(preset.average_from_epoch, preset.average_every_epochs)]
    return trainer_class(
        network,
        arguments,
        preset=preset,
        main_metric=main_metric(data.multi_label),
        train_dataset=rows,
        eval_dataset=clips[VALIDATION] if len(clips[VALIDATION]) else None,
        processing_class=feature_extractor,
        data_collator=collator,
        compute_metrics=metrics,
        callbacks=[clips[TRAIN], rows, DamagedRecordings(*clips.values()), *averaging, *callbacks],
    )


def _clip_parts(
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    preset: Preset,
    augmentation: Augmentation,
    seed: int,
) -> TrainingParts:
    """Return what the training of a classifier of clips needs; see `event_parts`."""
    clips = {
        split: Clips(
            data,
            data.of(split),
            sampling_rate=feature_extractor.sampling_rate,
            duration_s=feature_extractor.max_samples / feature_extractor.sampling_rate,
            random=split == TRAIN,
            seed=seed,
        )
        for split in (TRAIN, VALIDATION)
    }
    weights = None
    if preset.balanced:
        weights = class_balanced_weights([list(clip.labels) for clip in clips[TRAIN].rows], len(data.labels))
    rows = TrainingRows(clips[TRAIN], augmentation, weights=weights, seed=seed)
    collator = TrainingCollator(feature_extractor, num_labels=len(data.labels), multi_label=data.multi_label)
    return TrainingParts(clips, rows, collator, compute_metrics(data.problem_type))


def _check_arguments(preset: Preset, data: LabelledData, stats: str | None) -> None:
    for name in ("learning_rate", "num_epochs", "batch_size"):
        if not 0 < getattr(preset, name) < float("inf"):
            raise ValueError(f"{name}={getattr(preset, name)} must be positive.")
    if stats is not None and stats not in STATS:
        raise ValueError(f"stats={stats!r} is unknown; choose one of {STATS}.")
    if not data.of(TRAIN):
        raise ValueError("data holds no training recording; assign at least some to the split 'train'.")
    if len(data.labels) < 2 and not isinstance(data, StronglyLabelledData):
        raise ValueError(f"data has only the class {data.labels[0]!r}; a classifier needs two or more.")
    for label, counts in data.counts().items():
        if not counts[TRAIN]:
            logger.warning(f"The class {label!r} has no training recording, so it cannot be learnt.")


def _record(data: LabelledData) -> dict[str, Any]:
    """Return the record of the data that a model is trained on."""
    titles: dict[str, list[str]] = {split: [] for split in SPLITS}
    for clip in data.clips:
        titles[clip.split].append(clip.title)
    return {
        "source": data.source.location,
        "labels": data.labels,
        "splits": {split: names for split, names in titles.items() if names},
        "skipped": data.skipped,
        "warned": data.warned,
    }
