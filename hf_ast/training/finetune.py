"""Fine-tune any of the models on labelled recordings: `hf-ast finetune DATA --model NAME --out DIR`.

`transformers.Trainer` does the work; this file puts its parts together. The result opens with
`pipeline("audio-classification")`, `hf-ast classify` and `from_pretrained`.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainingArguments, set_seed
from transformers.utils import CONFIG_NAME, logging

from hf_ast.checkpoints import resolve_model
from hf_ast.choices import Freeze, InputStatistics, expect_one_of
from hf_ast.data.labelled import LabelledData
from hf_ast.data.splitting import SPLITS, TEST, TRAIN, VALIDATION
from hf_ast.data.strong_labels import StronglyLabelledData
from hf_ast.inference.loading import load_classifier
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

from .augmentation import Augmentation
from .averaging import SWACallback
from .cards import TrainingFacts, source_license, write_results
from .clips import Clips, num_parts
from .collation import TrainingCollator
from .damage import DamagedRecordings
from .data_checks import remarks
from .devices import device_arguments
from .evaluate import Evaluation, evaluate
from .event_evaluation import EventEvaluation, choose_thresholds, evaluate_events
from .extras import expect_train
from .frames import EventLoss, TrainingParts, event_parts
from .guards import run_training
from .metrics import compute_metrics, main_metric
from .output import (
    create_repository,
    digest,
    expect_other_folder,
    expect_same_record,
    only_run,
    source_name,
    state_to_resume,
    upload,
    with_entries,
    write_record,
)
from .preparation import default_stats, load_for_training, with_statistics, with_trained_part
from .presets import DEFAULT_PRESET, Preset, find_preset, with_changes
from .progress import STILL_FALLING, is_still_falling, losses
from .recipe_trainer import RecipeTrainer, training_arguments
from .sampling import TrainingRows, class_balanced_weights
from .schedules import WARMUP_STEPS, StopWithoutProgress

logger = logging.get_logger(__name__)

# Largest number of evaluations in a training, unless eval_every says otherwise
NUM_EVALUATIONS = 40


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
    stats: InputStatistics | None = None,
    balanced: bool | None = None,
    metric: str | None = None,
    time_patchout: float | None = None,
    frequency_patchout: float | None = None,
    freeze: Freeze = "nothing",
    lora: int | None = None,
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
        preset: Name of a recipe, or one of your own. Arguments with the names of its fields override its values.
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
        balanced, time_patchout, frequency_patchout: See `Preset`.
        metric: By which the best state is chosen: "accuracy", "balanced_accuracy" or "mAP"; the second by default, and
            mAP for several labels. Late states have an advance; see `rating` in `recipe_trainer`.
        freeze: What is not trained: "nothing", "embeddings", or the whole "backbone".
        lora: Rank of low-rank additions to the layers, which are trained instead of the backbone, and added to its
            weights in the result; None for none. Needs peft.
        eval_every: Steps between evaluations, and between saved states; by default an epoch, or a fortieth of the
            training if that is longer. The first state is saved after the first step.
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
            or another model, data, settings or seed, or, without `resume`, there are states of an earlier run or a
            model; another run is at work in `output`, or that is `model`; the training diverges.
        SystemExit: SIGTERM came; a state is saved.
    """
    expect_train()
    chosen = find_preset(preset) if isinstance(preset, str) else preset
    chosen = with_changes(
        chosen,
        batch_size=batch_size,
        learning_rate=learning_rate,
        num_epochs=num_epochs,
        balanced=balanced,
        time_patchout=time_patchout,
        frequency_patchout=frequency_patchout,
    )
    _check_arguments(chosen, data, stats, metric, eval_every)
    output = Path(output)
    expect_other_folder(output, model)
    on_device = device_arguments(device, "bfloat16" if bf16 else dtype)
    with only_run(output):
        last = state_to_resume(output, resume)
        set_seed(seed)
        network, feature_extractor, data = load_for_training(
            model, data, chosen, duration_s=duration_s, revision=revision, token=token
        )
        network = with_trained_part(network, freeze=freeze, lora=lora)
        rows_per_step = chosen.batch_size * gradient_accumulation_steps * int(os.environ.get("WORLD_SIZE", "1"))
        settings, num_steps_per_epoch = settle(chosen, network, feature_extractor, data, rows_per_step)
        if eval_every is None:
            eval_every = max(
                num_steps_per_epoch, math.ceil(settings.num_epochs * num_steps_per_epoch / NUM_EVALUATIONS)
            )
        record = _record(data) | {
            "seed": seed,
            "model": source_name(model),
            "settings": asdict(replace(settings, batch_size=rows_per_step))
            | {
                "duration_s": duration_s,
                "stats": stats,
                "eval_every": eval_every,
                "dtype": "bfloat16" if bf16 else dtype,
            }
            | {"metric": metric, "freeze": freeze, "lora": lora},
        }
        if last is not None:
            expect_same_record(output, record, ("labels", "sha256", "splits", "seed", "model", "settings"))
            feature_extractor = type(feature_extractor).from_pretrained(last)
        elif (stats or default_stats(settings, feature_extractor)) == "data":
            feature_extractor = with_statistics(feature_extractor, data, seed=seed, progress=progress)
        arguments = training_arguments(
            output,
            settings,
            eval_every=eval_every,
            has_validation=bool(data.of(VALIDATION)),
            gradient_accumulation_steps=gradient_accumulation_steps,
            dataloader_num_workers=num_workers,
            seed=seed,
            report_to=report_to,
            disable_tqdm=not progress,
            **on_device,
        )
        trainer = make_trainer(
            network, feature_extractor, data, settings, arguments, metric=metric, callbacks=callbacks or []
        )
        if trainer.is_world_process_zero():
            if push_to_hub is not None:
                create_repository(push_to_hub)
            write_record(output, record)
        said = list(remarks(data))
        for sentence in said:
            logger.warning(sentence)
        run_training(trainer, output, last)
        if is_still_falling(losses(trainer.state)):
            said.append(STILL_FALLING)
        facts = TrainingFacts(
            source=str(model),
            preset=preset if isinstance(preset, str) else "your own",
            settings=settings,
            num_steps=trainer.state.global_step,
            seed=seed,
            license=license or source_license(resolve_model(model, revision=revision, token=token), revision, token),
            license_is_inherited=license is None,
            best_step=trainer.state.best_global_step if arguments.load_best_model_at_end else None,
            remarks=said,
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
            with_entries(output / CONFIG_NAME, event_thresholds=network.config.event_thresholds)
        if split is not None:
            measure: Any = evaluate if not isinstance(data, StronglyLabelledData) else evaluate_events
            with_baselines = {} if isinstance(data, StronglyLabelledData) else {"with_baselines": True}
            evaluation = measure(
                network,
                feature_extractor,
                data,
                split=split,
                batch_size=batch_size,
                progress=progress,
                **with_baselines,
            )
            evaluation = replace(evaluation, remarks=[*evaluation.remarks, *facts.remarks])
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


def settle(
    preset: Preset,
    network: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    rows_per_step: int,
) -> tuple[Preset, int]:
    """Return the preset with the learning rate and the epochs of this training, and the number of steps per epoch."""
    duration_s = feature_extractor.max_samples / feature_extractor.sampling_rate
    num_rows = sum(num_parts(clip, duration_s) for clip in data.of(TRAIN))
    if preset.balanced and preset.rows_per_epoch is not None:
        num_rows = min(num_rows, preset.rows_per_epoch)
    settled = preset.settled(hidden_size=network.config.hidden_size, num_rows=num_rows, rows_per_step=rows_per_step)
    per_epoch = math.ceil(num_rows / rows_per_step)
    if settled.schedule_settings.get("warmup") is True and settled.num_epochs * per_epoch <= WARMUP_STEPS:
        logger.warning(
            f"The official warm-up of this preset takes {WARMUP_STEPS} steps, but this training has only "
            f"{math.ceil(settled.num_epochs * per_epoch)}, so it does not reach its learning rate; choose another "
            "preset, or more epochs."
        )
    return settled, per_epoch


def make_trainer(
    network: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    preset: Preset,
    arguments: TrainingArguments,
    *,
    metric: str | None = None,
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
    metric = metric or main_metric(data.multi_label)
    of_preset: list[TrainerCallback] = []
    if preset.average_from_epoch is not None:
        of_preset.append(SWACallback(preset.average_from_epoch, preset.average_every_epochs))
    elif preset.patience is not None:
        of_preset.append(StopWithoutProgress(preset.patience, metric))
    return trainer_class(
        network,
        arguments,
        preset=preset,
        main_metric=metric,
        train_dataset=rows,
        eval_dataset=clips[VALIDATION] if len(clips[VALIDATION]) else None,
        processing_class=feature_extractor,
        data_collator=collator,
        compute_metrics=metrics,
        callbacks=[clips[TRAIN], rows, DamagedRecordings(*clips.values()), *of_preset, *callbacks],
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
        labels = [list(clip.labels) for clip in clips[TRAIN].rows]
        weights = class_balanced_weights(labels, len(data.labels), offset=preset.balance_offset)
    rows = TrainingRows(
        clips[TRAIN],
        augmentation,
        weights=weights,
        num_rows=preset.rows_per_epoch if preset.balanced else None,
        replacement=preset.rows_per_epoch is None,
        seed=seed,
    )
    collator = TrainingCollator(feature_extractor, num_labels=len(data.labels), multi_label=data.multi_label)
    return TrainingParts(clips, rows, collator, compute_metrics(data.problem_type))


def _check_arguments(
    preset: Preset, data: LabelledData, stats: str | None, metric: str | None, eval_every: int | None
) -> None:
    values = {name: getattr(preset, name) for name in ("learning_rate", "num_epochs", "batch_size")}
    for name, value in (values | {"eval_every": 1 if eval_every is None else eval_every}).items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value} must be positive.")
    if stats is not None:
        expect_one_of(InputStatistics, stats=stats)
    known = ("mAP",) if data.multi_label else ("accuracy", "balanced_accuracy", "mAP")
    if metric is not None and metric not in known:
        raise ValueError(f"metric={metric!r} does not suit these data; choose one of {known}.")
    if not data.of(TRAIN):
        raise ValueError("data holds no training recording; assign at least some to the split 'train'.")
    if len(data.labels) < 2 and not isinstance(data, StronglyLabelledData):
        raise ValueError(f"data has only the class {data.labels[0]!r}; a classifier needs two or more.")


def _record(data: LabelledData) -> dict[str, Any]:
    """Return the record of the data that a model is trained on."""
    titles: dict[str, list[str]] = {split: [] for split in SPLITS}
    for clip in data.clips:
        titles[clip.split].append(clip.title)
    return {
        "source": data.source.location,
        "labels": data.labels,
        "splits": {split: names for split, names in titles.items() if names},
        "sha256": digest(data.clips),
        "skipped": data.skipped,
        "warned": data.warned,
    }
