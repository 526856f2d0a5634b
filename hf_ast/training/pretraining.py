"""Pretrain an SSAST on a folder of recordings: `hf-ast pretrain DIR --config tiny --kind patch`.

Any format that libsndfile reads, in any subfolder, no labels. An epoch takes random crops of the model's length, as
much audio as there is. The result opens with `AutoModelForAudioClassification.from_pretrained(output, num_labels=...)`
for fine-tuning, and `--model` continues from any SSAST checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import Trainer, TrainingArguments, set_seed
from transformers.utils import logging

from hf_ast import HfASTFeatureExtractor, SSASTConfig, SSASTForPreTraining, audio
from hf_ast.models.configuration_common import SIZES
from hf_ast.models.modules_fbank import frame_geometry

logger = logging.get_logger(__name__)

KINDS = ("patch", "frame")
# 400 of 512 patches in the paper
MASK_RATIO = 400 / 512


def pretraining_config(size: str, kind: str, *, duration_s: float = 10.24, **changes: Any) -> SSASTConfig:
    """Config of an official size and kind.

    Args:
        size: "tiny", "small" or "base".
        kind: "patch" (16 x 16) or "frame" (all mel bins x 2).
        duration_s: Length of the clips that the model sees.
        changes: Other fields.
    """
    for name, value, known in (("size", size, tuple(SIZES)), ("kind", kind, KINDS)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {known}.")
    num_mel_bins = changes.get("num_mel_bins", 128)
    height, width = (16, 16) if kind == "patch" else (num_mel_bins, 2)
    max_length = int(100 * duration_s) // width * width
    values = {"patch_size": (height, width), "max_length": max_length, "mask_ratio": MASK_RATIO}
    return SSASTConfig(**SIZES[size] | values | changes)


class Recording(NamedTuple):
    """An audio file and its length."""

    path: Path
    duration_s: float


def find_recordings(folder: Path) -> list[Recording]:
    """All readable recordings in a folder and its subfolders, in the order of their names."""
    if not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is no folder; give one that holds audio files.")
    recordings, unreadable = [], []
    for path in tqdm(sorted(p for p in folder.rglob("*") if p.is_file()), desc="Reading headers", unit="file"):
        try:
            recordings.append(Recording(path, audio.duration(path)))
        except ValueError:
            unreadable.append(path.name)
    if unreadable:
        logger.warning(f"{len(unreadable)} files are no audio that libsndfile can read, such as {unreadable[:3]}.")
    if not recordings:
        raise ValueError(f"folder={str(folder)!r} holds no recording that libsndfile can read.")
    return recordings


class Crops(Dataset):
    """Spectrograms of random crops, of the feature extractor's length; a recording of three lengths gives three.

    Args:
        recordings: Where to crop from.
        feature_extractor: Makes the spectrograms; shorter recordings are padded.
        masked_by: For evaluation: crops from the middle, always with the same patches hidden, by this model's sampler.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        feature_extractor: HfASTFeatureExtractor,
        masked_by: SSASTForPreTraining | None = None,
    ):
        self.feature_extractor = feature_extractor
        self.masked_by = masked_by
        frame_length, frame_shift, _ = frame_geometry(feature_extractor.sampling_rate)
        num_samples = frame_length + (feature_extractor.max_length - 1) * frame_shift
        self.duration_s = num_samples / feature_extractor.sampling_rate
        shortest_s = frame_length / feature_extractor.sampling_rate
        self.crops = [
            recording
            for recording in recordings
            if recording.duration_s > shortest_s
            for _ in range(1 if masked_by else max(1, round(recording.duration_s / self.duration_s)))
        ]
        if not self.crops:
            raise ValueError(f"recordings are all shorter than one frame of {1000 * shortest_s:.0f} ms.")

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        recording = self.crops[index]
        # torch's generator, which the data loader seeds anew for each worker and epoch
        place = 0.5 if self.masked_by else torch.rand(()).item()
        waveform, rate = audio.read(
            recording.path,
            self.feature_extractor.sampling_rate,
            start_s=place * max(0.0, recording.duration_s - self.duration_s),
            duration_s=self.duration_s,
        )
        features = self.feature_extractor(
            waveform, sampling_rate=rate, return_tensors="pt", return_attention_mask=True
        )
        item = {name: values[0] for name, values in features.items()}
        if self.masked_by:
            generator = torch.Generator().manual_seed(index)
            item["mask_indices"] = draw_mask(self.masked_by, item["attention_mask"], generator)
        return item


def draw_mask(model: SSASTForPreTraining, frame_mask: Tensor, generator: torch.Generator) -> Tensor:
    """Patches to hide in one clip with the frame mask (T,), shape (patches of the grid,); -1 behind the last one."""
    embeddings = model.backbone.embeddings
    columns = embeddings.column_mask(frame_mask[None])
    drawn = model.objectives.draw_mask(columns, embeddings.num_rows, generator)[0]
    # The same length for all clips, so that they can be stacked
    return torch.nn.functional.pad(drawn, (0, embeddings.num_rows * columns.shape[1] - len(drawn)), value=-1)


def feature_statistics(
    recordings: Sequence[Recording], config: SSASTConfig, num_crops: int = 256
) -> tuple[float, float]:
    """Mean and standard deviation of the log-mel values in random crops, padding left out."""
    raw = HfASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length, do_normalize=False)
    crops = Crops(recordings, raw)
    chosen = torch.randperm(len(crops))[:num_crops].tolist()
    values = []
    for index in tqdm(chosen, desc="Statistics", unit="crop"):
        item = crops[index]
        values.append(item["input_values"][item["attention_mask"].bool()].flatten())
    values = torch.cat(values).double()
    return values.mean().item(), values.std().item()


class PretrainingTrainer(Trainer):
    """Trainer that also logs both losses and the accuracy: means since the last log, in evaluation over all of it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.parts: dict[bool, dict[str, list[Tensor]]] = {True: {}, False: {}}

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        """As `Trainer.compute_loss`."""
        outputs = model(**inputs)
        for name in SSASTConfig.keys_to_ignore_at_inference:
            value = getattr(outputs, name)
            if value is not None:
                self.parts[model.training].setdefault(name, []).append(value.detach().mean())
        loss = outputs.loss.mean()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As `Trainer.log`; `logs` is also what `evaluate` returns."""
        for name, training in (("loss", True), ("eval_loss", False)):
            if name in logs:
                for part, values in self.parts[training].items():
                    logs[name.replace("loss", part)] = torch.stack(values).mean().item()
                self.parts[training].clear()
        super().log(logs, *args, **kwargs)


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
    """Pretrain on the recordings of a folder, and save model and feature extractor.

    Args:
        folder: Recordings, in any subfolder.
        output: Folder for the result and, in `checkpoints`, the states to resume from.
        size, kind, duration_s: See `pretraining_config`.
        model: Checkpoint to start from instead, with its own size, kind, length and statistics.
        num_steps: Optimiser steps.
        batch_size: Crops per step and device.
        learning_rate: Largest one; the official 1e-4 by default. Linear warm-up over 5 % of the steps, then cosine.
        eval_every: Steps between evaluations, and between saved states.
        num_eval: Recordings to hold out for evaluation, at most a tenth.
        num_workers: Processes that read audio.
        seed: Of weights, crops, masks and the held-out recordings.
        resume: Continue from the last saved state in `output`.
        config: Other fields of the config, such as `{"mask_sampler": "uniform"}`.
    """
    set_seed(seed)
    recordings = find_recordings(Path(folder))
    order = np.random.default_rng(seed).permutation(len(recordings))
    held_out, used = np.split(order, [min(num_eval, len(recordings) // 10)])
    train = [recordings[i] for i in used]
    if model is None:
        network = SSASTForPreTraining(pretraining_config(size, kind, duration_s=duration_s, **config or {}))
        mean, std = feature_statistics(train, network.config)
        feature_extractor = HfASTFeatureExtractor(
            num_mel_bins=network.config.num_mel_bins, max_length=network.config.max_length, mean=mean, std=std
        )
    else:
        network = SSASTForPreTraining.from_pretrained(model, **config or {})
        feature_extractor = HfASTFeatureExtractor.from_pretrained(model)
    evaluation = Crops([recordings[i] for i in held_out], feature_extractor, network) if len(held_out) else None
    arguments = TrainingArguments(
        output_dir=str(Path(output) / "checkpoints"),
        max_steps=num_steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        adam_beta1=0.95,  # and weight decay: as official
        weight_decay=5e-7,
        eval_strategy="steps" if evaluation else "no",
        eval_steps=eval_every,
        save_steps=eval_every,
        save_total_limit=2,
        logging_steps=max(1, min(100, eval_every // 10)),
        dataloader_num_workers=num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        prediction_loss_only=True,
        report_to="none",
        seed=seed,
    )
    trainer = PretrainingTrainer(
        network, arguments, train_dataset=Crops(train, feature_extractor), eval_dataset=evaluation
    )
    trainer.train(resume_from_checkpoint=resume)
    network.save_pretrained(output)
    feature_extractor.save_pretrained(output)
    return network
