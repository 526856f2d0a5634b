"""Pretrain an SSAST on recordings without labels: `hf-ast pretrain DATA --size tiny --kind patch`.

In an epoch, the total duration of the random crops is about that of the recordings. The result opens with
`AutoModelForAudioClassification.from_pretrained(output, num_labels=...)` for fine-tuning, and `--model` continues from
any SSAST checkpoint.
"""

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging

from hf_ast import HfASTFeatureExtractor, SSASTConfig, SSASTForPreTraining
from hf_ast.checkpoints import resolve_model
from hf_ast.choices import PatchKind, PretrainingOptimizer, PretrainingSize, expect_one_of
from hf_ast.data.splitting import TRAIN, VALIDATION
from hf_ast.inference.loading import expect_complete
from hf_ast.models.configuration_common import SIZES
from hf_ast.models.modules_masking import LARGEST_CLUSTER
from hf_ast.opening import hub_settings, open_safely

from .clips import num_parts
from .crops import ClipMasks, Crops, collate_crops, crop_statistics
from .damage import DamagedRecordings
from .devices import device_arguments
from .guards import run_training
from .mixtures import Mixture, read_mixture
from .optimizers import LEARNING_RATE, MuonAdamW
from .output import (
    CHECKPOINTS,
    create_repository,
    expect_other_folder,
    expect_same_record,
    last_state,
    only_run,
    source_name,
    state_to_resume,
    upload,
    write_record,
)
from .pretraining_trainer import MakeOptimizer, PretrainingTrainer

logger = logging.get_logger(__name__)

LEARNING_RATES = {"adamw": 1e-4, "muon": LEARNING_RATE}
OFFICIAL_DURATION_S = 10.24
# By default a training has so many epochs, within these bounds
NUM_EPOCHS, LEAST_STEPS, MOST_STEPS = 50, 1000, 100_000
# 400 of 512 patches in the paper
MASK_RATIO = 400 / 512
# For a grid that is too small for clusters; measured in BENCHMARKS.md, on 2 x 12 patches
SMALL_GRID_MASK_RATIO = 0.5


def pretraining_config(
    size: PretrainingSize, kind: PatchKind, *, duration_s: float = OFFICIAL_DURATION_S, **changes: Any
) -> SSASTConfig:
    """Return the config of an official size and kind, with masks that fit its patch grid.

    Args:
        size: "tiny", "small" or "base".
        kind: "patch" (16 mel bins x 16 frames) or "frame" (all mel bins x 2 frames).
        duration_s: Length of the clips that the model is trained on.
        changes: Other fields of the config; those of the masks replace the ones of `mask_settings`.

    Raises:
        ValueError: Size or kind is unknown, or the duration does not hold two patches.
    """
    expect_one_of(PretrainingSize, size=size)
    expect_one_of(PatchKind, kind=kind)
    num_mel_bins = changes.get("num_mel_bins", 128)
    height, width = (16, 16) if kind == "patch" else (num_mel_bins, 2)
    if not 0.02 * width <= duration_s < float("inf"):
        raise ValueError(f"duration_s={duration_s} must be at least {0.02 * width} s, two patches of {width} frames.")
    max_length = int(100 * duration_s) // width * width
    values: dict[str, Any] = SIZES[size] | {"patch_size": (height, width), "max_length": max_length} | changes
    return SSASTConfig(**mask_settings(*SSASTConfig(**values).grid) | values)


def mask_settings(num_rows: int, num_columns: int) -> dict[str, Any]:
    """Return the fields of a config for the masks of a patch grid.

    The ratio of the paper, 400 of 512 patches, is masked in the default way: in clusters, if there are several rows
    and columns. In a grid with fewer rows or columns than the side of the largest cluster, single patches are masked,
    and only half of them: the paper's masks would leave only a few whole columns.

    Args:
        num_rows, num_columns: F' and T'.
    """
    if num_rows > 1 and min(num_rows, num_columns) < LARGEST_CLUSTER:
        return {"mask_ratio": SMALL_GRID_MASK_RATIO, "mask_clusters": False}
    return {"mask_ratio": MASK_RATIO}


def pretrain(
    data: Any,
    output: str | Path,
    *,
    weights: Sequence[float] | None = None,
    split_column: str = "split",
    audio_folder: str | os.PathLike[str] | None = None,
    subset: str | None = None,
    size: PretrainingSize = "tiny",
    kind: PatchKind = "patch",
    model: str | Path | None = None,
    duration_s: float | None = None,
    num_steps: int | None = None,
    batch_size: int = 24,
    gradient_accumulation_steps: int = 1,
    optimizer: PretrainingOptimizer = "adamw",
    learning_rate: float | None = None,
    eval_every: int | None = None,
    num_eval: int = 200,
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
    config: dict[str, Any] | None = None,
    progress: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> SSASTForPreTraining:
    """Pretrain on recordings, and save the model and its feature extractor.

    Crops, masks and weights depend on the number of clips of a step (`batch_size` x `gradient_accumulation_steps` x
    processes), but not on how it is divided, apart from rounding.

    Args:
        data, weights, split_column, audio_folder, subset, num_eval: The recordings of one or several sources; see
            `read_mixture`. `data` may also be what it returns.
        output: Folder for the result; `checkpoints` in it holds the states to resume from.
        size, kind: See `pretraining_config`.
        duration_s: Length of the clips that the model is trained on; by default that of the longest recording, at most
            10.24 s as in the official code.
        model: Checkpoint to start from instead, with its own size, kind, length and statistics. If it masks a fixed
            number of patches, the same fraction of every clip is masked here, so that no short clip is fully masked.
        num_steps: Number of optimiser steps; by default those of 50 epochs, at least 1,000 and at most 100,000.
        batch_size: Crops per forward pass and process.
        gradient_accumulation_steps: Forward passes per step.
        optimizer: "adamw", with the official settings, or "muon", with which small models learn in fewer steps; see
            `hf_ast.training.optimizers.MuonAdamW`.
        learning_rate: Peak learning rate; by default 1e-4 for AdamW, as in the official code, and 4e-3 for Muon. It
            rises linearly over 5 % of the steps, and then falls along a cosine.
        eval_every: Steps between evaluations, and between saved states; by default a twentieth of all, at most 1,000.
            The first state is saved after the first step.
        num_workers: Number of processes that read audio.
        seed: Seed for weights, crops, masks and the choice of held-out recordings.
        bf16: The same as dtype="bfloat16".
        device, dtype: See `hf_ast.training.devices.device_arguments`.
        revision, token: As in `hf_ast.load_classifier`, for a model on the Hub.
        report_to: Where `Trainer` reports to: "none", "tensorboard", "wandb", ...
        resume: Continue from the last saved state in `output`, as if there had been no interruption.
        push_to_hub: Repository on the Hub, "owner/name", that the result is uploaded to.
        config: Other fields of the config, such as `{"mask_sampler": "uniform"}`.
        progress: Whether to show progress bars on stderr.
        callbacks: Other callbacks for `Trainer`.

    Raises:
        ValueError: An argument is wrong, there are no recordings, or more than a tenth of them are damaged (fewer
            damaged recordings are left out, and named at the end); `resume` finds no state or other recordings,
            settings or seed, or, without `resume`, there are states of an earlier run or a model; another run is at
            work in `output`; the checkpoint `model` is incomplete; the training diverges.
        SystemExit: SIGTERM came; a state is saved.
    """
    _expect_positive(
        num_steps=num_steps,
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        eval_every=eval_every,
    )
    make_optimizer, learning_rate = _find_optimizer(optimizer, learning_rate)
    output = Path(output)
    expect_other_folder(output, model)
    on_device = device_arguments(device, "bfloat16" if bf16 else dtype)
    of_hub = hub_settings(revision, token)
    if model is not None:
        model = resolve_model(model, revision=revision, token=token)
        expect_other_folder(output, model)
    if resume:
        last_state(output)
    # Errors before the data are read
    duration = OFFICIAL_DURATION_S if duration_s is None else duration_s
    model_config = (
        pretraining_config(size, kind, duration_s=duration, **config or {})
        if model is None
        else continued_config(model, config or {}, **of_hub)
    )
    mixture = _as_mixture(
        data,
        weights=weights,
        split_column=split_column,
        audio_folder=audio_folder,
        subset=subset,
        num_eval=num_eval,
        seed=seed,
        progress=progress,
    )
    if model is None and duration_s is None:
        duration_s = _duration_s(mixture, kind)
        model_config = pretraining_config(size, kind, duration_s=duration_s, **config or {})
    clips_per_step = batch_size * gradient_accumulation_steps * int(os.environ.get("WORLD_SIZE", "1"))
    num_steps = num_steps or _num_steps(mixture, model_config.max_length / 100, clips_per_step)
    eval_every = eval_every or min(1000, math.ceil(num_steps / 20))
    with only_run(output):
        last = state_to_resume(output, resume)
        record = mixture.record() | {
            "seed": seed,
            "model": None if model is None else source_name(model),
            "settings": {
                "size": size,
                "kind": kind,
                "duration_s": duration_s,
                "num_steps": num_steps,
                "batch_size": clips_per_step,
                "optimizer": optimizer,
                "learning_rate": learning_rate,
                "eval_every": eval_every,
                "config": config,
                "dtype": "bfloat16" if bf16 else dtype,
            },
        }
        if last is not None:
            expect_same_record(output, record, ("recordings", "weights", "seed", "model", "settings"))
        set_seed(seed)
        network = _new_network(model, model_config, of_hub)
        # The statistics are in the saved state, or in the checkpoint
        saved = last or model
        if saved is None:
            mean, std = crop_statistics(mixture, model_config, seed=seed, progress=progress)
            feature_extractor = HfASTFeatureExtractor(
                num_mel_bins=model_config.num_mel_bins, max_length=model_config.max_length, mean=mean, std=std
            )
        else:
            feature_extractor = open_safely(HfASTFeatureExtractor, saved, **({} if last else of_hub))
        feature_extractor.min_length = model_config.min_frames
        arguments = _training_arguments(
            output,
            max_steps=num_steps,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            gradient_accumulation_steps=gradient_accumulation_steps,
            learning_rate=learning_rate,
            eval_strategy="steps" if mixture.has(VALIDATION) else "no",
            eval_steps=eval_every,
            save_steps=eval_every,
            logging_steps=max(1, min(100, eval_every // 10)),
            dataloader_num_workers=num_workers,
            seed=seed,
            report_to=report_to,
            disable_tqdm=not progress,
            **on_device,
        )
        trainer = make_trainer(
            network, feature_extractor, mixture, arguments, make_optimizer=make_optimizer, callbacks=callbacks
        )
        if trainer.is_world_process_zero():
            if push_to_hub is not None:
                create_repository(push_to_hub)
            write_record(output, record)
        run_training(trainer, output, last)
        if push_to_hub is not None and trainer.is_world_process_zero():
            upload(output, push_to_hub, "Pretrained by hf-ast")
    return network


def make_trainer(
    network: SSASTForPreTraining,
    feature_extractor: HfASTFeatureExtractor,
    mixture: Mixture,
    arguments: TrainingArguments,
    *,
    make_optimizer: MakeOptimizer | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> PretrainingTrainer:
    """Put the parts together: recordings, crops, masks, batches."""
    masks = ClipMasks(network.config)
    training = Crops(mixture, feature_extractor, masks, seed=arguments.seed)
    evaluation = None
    if mixture.has(VALIDATION):
        evaluation = Crops(mixture, feature_extractor, masks, evaluation=True, seed=arguments.seed)
    damaged = DamagedRecordings(*(crops for crops in (training, evaluation) if crops))
    return PretrainingTrainer(
        network,
        arguments,
        train_dataset=training,
        eval_dataset=evaluation,
        processing_class=feature_extractor,
        data_collator=collate_crops,
        callbacks=[training, damaged, *callbacks],
        make_optimizer=make_optimizer,
    )


def _expect_positive(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name}={number} must be positive.")


def _duration_s(mixture: Mixture, kind: str) -> float:
    """Return the length of the longest recording to train on, at most the official one, and at least three patches."""
    longest = max(clip.duration_s for part in mixture.parts for clip in part.of(TRAIN))
    return min(OFFICIAL_DURATION_S, max(0.48 if kind == "patch" else 0.06, longest))


def _num_steps(mixture: Mixture, duration_s: float, clips_per_step: int) -> int:
    """Return the steps of a training that suits the amount of data."""
    num_clips = sum(num_parts(clip, duration_s) for part in mixture.parts for clip in part.of(TRAIN))
    return min(MOST_STEPS, max(LEAST_STEPS, NUM_EPOCHS * math.ceil(num_clips / clips_per_step)))


def _as_mixture(data: Any, *, weights: Sequence[float] | None, **settings: Any) -> Mixture:
    """Return what `read_mixture` finds, or `data` if it is that already."""
    if not isinstance(data, Mixture):
        return read_mixture(data, weights=weights, **settings)
    if weights is not None:
        raise ValueError(f"weights={list(weights)} must be given to read_mixture, which made data.")
    return data


def _find_optimizer(name: PretrainingOptimizer, learning_rate: float | None) -> tuple[MakeOptimizer | None, float]:
    """Return what makes the optimiser, if `Trainer` does not have it, and the learning rate."""
    expect_one_of(PretrainingOptimizer, optimizer=name)
    if learning_rate is None:
        learning_rate = LEARNING_RATES[name]
    return (partial(MuonAdamW, learning_rate=learning_rate) if name == "muon" else None), learning_rate


def _new_network(model: str | Path | None, config: SSASTConfig, of_hub: dict[str, Any]) -> SSASTForPreTraining:
    """Return a model with new weights, or those of a checkpoint, in float32."""
    if model is None:
        return SSASTForPreTraining(config)
    loaded, info = open_safely(
        SSASTForPreTraining,
        model,
        config=config,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **of_hub,
    )
    expect_complete(model, info)
    network: SSASTForPreTraining = loaded
    return network


def continued_config(model: str | Path, changes: dict[str, Any], **of_hub: Any) -> SSASTConfig:
    """Return the config of a checkpoint, with a fraction of patches to mask instead of a fixed number."""
    config: SSASTConfig = open_safely(SSASTConfig, model, **changes, **of_hub)
    if config.mask_ratio is None:
        rows, columns = config.grid
        config.mask_ratio = min(config.num_mask_patches / (rows * columns), MASK_RATIO)
        logger.warning(
            f"mask_ratio={config.mask_ratio:.3g} replaces num_mask_patches={config.num_mask_patches}, which would "
            "mask shorter clips completely."
        )
    return config


def _training_arguments(output: Path, **changes: Any) -> TrainingArguments:
    """Return the settings of the official code, with a schedule for any number of steps, and `changes`."""
    return TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        adam_beta1=0.95,  # this and the weight decay are those of the official code
        weight_decay=5e-7,
        logging_nan_inf_filter=False,  # a loss that is not finite ends the training
        save_total_limit=2,
        dataloader_pin_memory=torch.cuda.is_available(),
        prediction_loss_only=True,
        remove_unused_columns=False,
        **device_arguments() | changes,
    )
