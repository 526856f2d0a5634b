"""Pretrain an SSAST on a folder of recordings: `hf-ast pretrain DIR --size tiny --kind patch`.

The recordings need no labels, and may be in any subfolder and any format that libsndfile reads. In an epoch, the total
duration of the random crops is about that of the recordings. The result opens with
`AutoModelForAudioClassification.from_pretrained(output, num_labels=...)` for fine-tuning, and `--model` continues from
any SSAST checkpoint.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator, set_seed
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from hf_ast import HfASTFeatureExtractor, SSASTConfig, SSASTForPreTraining
from hf_ast.models.configuration_common import SIZES

from .crops import ClipMasks, Crops, Recording, feature_statistics, find_recordings

logger = logging.get_logger(__name__)

KINDS = ("patch", "frame")
# Folder of saved states in the output folder
CHECKPOINTS = "checkpoints"
# 400 of 512 patches in the paper
MASK_RATIO = 400 / 512


def pretraining_config(size: str, kind: str, *, duration_s: float = 10.24, **changes: Any) -> SSASTConfig:
    """Return the config of an official size and kind.

    Args:
        size: "tiny", "small" or "base".
        kind: "patch" (16 mel bins x 16 frames) or "frame" (all mel bins x 2 frames).
        duration_s: Length of the clips that the model is trained on.
        changes: Other fields of the config.

    Raises:
        ValueError: Size or kind is unknown, or the duration does not hold two patches.
    """
    for name, value, known in (("size", size, tuple(SIZES)), ("kind", kind, KINDS)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {known}.")
    num_mel_bins = changes.get("num_mel_bins", 128)
    height, width = (16, 16) if kind == "patch" else (num_mel_bins, 2)
    if not 0.02 * width <= duration_s < float("inf"):
        raise ValueError(f"duration_s={duration_s} must be at least {0.02 * width} s, two patches of {width} frames.")
    max_length = int(100 * duration_s) // width * width
    values: dict[str, Any] = {"patch_size": (height, width), "max_length": max_length, "mask_ratio": MASK_RATIO}
    return SSASTConfig(**SIZES[size] | values | changes)


class PretrainingTrainer(Trainer):
    """Trainer for masked-patch pretraining.

    The loss of a step is the mean over all patches that are masked in it, no matter how its clips are distributed over
    accumulated batches and processes. The mean of the batches' means would give more weight to clips in batches with
    few masked patches. To know the number of masked patches, the masks of all batches of a step are drawn before its
    first forward pass.

    Both losses and the accuracy are logged, as means since the last log or over the whole evaluation.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.masks = ClipMasks(self.accelerator.unwrap_model(self.model).config)
        # Logged name -> pairs of a weighted value and its weight; by whether the model was training
        self.parts: dict[bool, dict[str, list[Tensor]]] = {True: {}, False: {}}

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Return the batches of a step, with `mask_indices`, and the number of masked patches in all of them."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        num_masked = torch.zeros((), dtype=torch.long, device=device)
        for batch in batches:
            frame_mask = batch.get("attention_mask")
            if frame_mask is None:
                frame_mask = torch.ones_like(batch["input_values"][..., 0])
            if "mask_indices" not in batch:
                batch["mask_indices"] = self.masks(frame_mask)
            num_masked += self.masks.count(batch["mask_indices"], frame_mask).to(device)
        if self.args.world_size > 1:
            num_masked = self.accelerator.gather(num_masked).sum()
        return batches, num_masked.clamp(min=1)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss as `Trainer` does; `num_items_in_batch` counts the masked patches of the whole step."""
        outputs = model(**inputs)
        # In evaluation, batches are weighted by their number of clips, as Trainer does
        loss, weight = outputs.loss.mean(), torch.tensor(float(len(inputs["input_values"])))
        if num_items_in_batch is not None:
            weight = outputs.mask_lengths.sum() / num_items_in_batch
            # Gradients are averaged over processes, but this loss is a part of a sum
            loss = loss * weight * max(1, self.args.world_size)
        parts = self.parts[model.training]
        for name in SSASTConfig.keys_to_ignore_at_inference:
            value = getattr(outputs, name)
            if value is not None:
                weighted = torch.stack((value.detach().mean() * weight.to(value.device), weight.to(value.device)))
                parts.setdefault(name, []).append(weighted)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add losses and accuracy to `logs`, which is also the result of `evaluate`, and log them."""
        for name, training in (("loss", True), ("eval_loss", False)):
            if name in logs:
                for part, values in self.parts[training].items():
                    total, weight = torch.stack(values).sum(dim=0)
                    logs[name.replace("loss", part)] = (total / weight).item()
                self.parts[training].clear()
        super().log(logs, *args, **kwargs)


class DamagedRecordings(TrainerCallback):
    """Stops a training in which more than a tenth of the recordings are damaged; names damaged ones at its end."""

    def __init__(self, *crops: Crops):
        self.crops = crops

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Check after every step."""
        for crops in self.crops:
            crops.expect_few_damaged()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Check once more, and name the damaged recordings."""
        self.on_step_end()
        damaged = [str(path) for crops in self.crops for path in crops.damaged]
        if damaged:
            logger.warning(f"{len(damaged)} damaged recordings were left out: {', '.join(damaged)}")


def pretrain(
    folder: str | Path,
    output: str | Path,
    *,
    size: str = "tiny",
    kind: str = "patch",
    model: str | Path | None = None,
    duration_s: float = 10.24,
    num_steps: int = 100_000,
    batch_size: int = 24,
    learning_rate: float = 1e-4,
    eval_every: int = 1000,
    num_eval: int = 200,
    num_workers: int = 2,
    seed: int = 0,
    resume: bool = False,
    config: dict[str, Any] | None = None,
) -> SSASTForPreTraining:
    """Pretrain on the recordings of a folder, and save the model and its feature extractor.

    Args:
        folder: Folder with recordings, in any subfolder.
        output: Folder for the result; `checkpoints` in it holds the states to resume from.
        size, kind, duration_s: See `pretraining_config`.
        model: Checkpoint to start from instead, with its own size, kind, length and statistics. If it masks a fixed
            number of patches, the same fraction of every clip is masked, so that no short clip is masked completely.
        num_steps: Number of optimiser steps.
        batch_size: Crops per step and device.
        learning_rate: Peak learning rate, 1e-4 in the official code. It rises linearly over 5 % of the steps, and then
            falls as a cosine.
        eval_every: Steps between evaluations, and between saved states.
        num_eval: Number of recordings held out for evaluation; at most a tenth of all.
        num_workers: Number of processes that read audio.
        seed: Seed for weights, crops, masks and the choice of held-out recordings.
        resume: Continue from the last saved state in `output`.
        config: Other fields of the config, such as `{"mask_sampler": "uniform"}`.

    Raises:
        ValueError: An argument is wrong, there are no recordings, or more than a tenth of them are damaged. Fewer
            damaged recordings are left out, and named at the end.
    """
    for name, number in (("num_steps", num_steps), ("batch_size", batch_size), ("eval_every", eval_every)):
        if number < 1:
            raise ValueError(f"{name}={number} must be positive.")
    if num_eval < 0:
        raise ValueError(f"num_eval={num_eval} must not be negative; 0 holds out nothing.")
    last = _last_state(output) if resume else None
    if model is None:
        model_config = pretraining_config(size, kind, duration_s=duration_s, **config or {})
    else:
        model_config = continued_config(model, config or {})
    set_seed(seed)
    recordings = find_recordings(Path(folder))
    order = np.random.default_rng(seed).permutation(len(recordings))
    held_out, used = np.split(order, [min(num_eval, len(recordings) // 10)])
    train = [recordings[i] for i in used]
    if model is None:
        network = SSASTForPreTraining(model_config)
    else:
        network = SSASTForPreTraining.from_pretrained(model, config=model_config)
    # The statistics are in the saved state, or in the checkpoint
    feature_extractor = _feature_extractor(last or model, train, model_config)
    training, evaluation = Crops(train, feature_extractor), None
    if len(held_out):
        evaluation = Crops([recordings[i] for i in held_out], feature_extractor, ClipMasks(model_config))
    arguments = _training_arguments(
        output,
        max_steps=num_steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        eval_strategy="steps" if evaluation else "no",
        eval_steps=eval_every,
        save_steps=eval_every,
        logging_steps=max(1, min(100, eval_every // 10)),
        dataloader_num_workers=num_workers,
        seed=seed,
    )
    trainer = PretrainingTrainer(
        network,
        arguments,
        train_dataset=training,
        eval_dataset=evaluation,
        processing_class=feature_extractor,
        data_collator=default_data_collator,
        callbacks=[DamagedRecordings(*(crops for crops in (training, evaluation) if crops))],
    )
    trainer.train(resume_from_checkpoint=last)
    network.save_pretrained(output)
    feature_extractor.save_pretrained(output)
    return network


def continued_config(model: str | Path, changes: dict[str, Any]) -> SSASTConfig:
    """Return the config of a checkpoint, with a fraction of patches to mask instead of a fixed number."""
    config = SSASTConfig.from_pretrained(model, **changes)
    if config.mask_ratio is None:
        rows, columns = config.grid
        config.mask_ratio = min(config.num_mask_patches / (rows * columns), MASK_RATIO)
        logger.warning(
            f"mask_ratio={config.mask_ratio:.3g} takes the place of num_mask_patches={config.num_mask_patches}, which "
            "would mask shorter clips completely."
        )
    return config


def _last_state(output: str | Path) -> str:
    """Return the folder of the last saved state in `output`; an error if there is none."""
    checkpoints = Path(output) / CHECKPOINTS
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    if last is None:
        raise ValueError(f"resume=True, but {str(checkpoints)!r} holds no saved state; start without it.")
    return str(last)


def _feature_extractor(
    saved: str | Path | None, recordings: list[Recording], config: SSASTConfig
) -> HfASTFeatureExtractor:
    """Open a saved feature extractor, or make one with the statistics of the recordings."""
    if saved is not None:
        return HfASTFeatureExtractor.from_pretrained(saved)
    mean, std = feature_statistics(recordings, config)
    return HfASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length, mean=mean, std=std)


def _training_arguments(output: str | Path, **changes: Any) -> TrainingArguments:
    """Return the settings of the official code, with a schedule for any number of steps, and `changes`."""
    return TrainingArguments(
        output_dir=str(Path(output) / CHECKPOINTS),
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        adam_beta1=0.95,  # this and the weight decay are those of the official code
        weight_decay=5e-7,
        save_total_limit=2,
        dataloader_pin_memory=torch.cuda.is_available(),
        prediction_loss_only=True,
        report_to="none",
        **changes,
    )
