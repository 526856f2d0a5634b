"""Labelled recordings as rows of a training set."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_ast import audio
from hf_ast.inference.corpus.sources import Reader

from .data import Clip, LabelledData


class Clips(Dataset[dict[str, Any]], TrainerCallback):
    """Waveforms and labels, as `TrainingCollator` takes them: `{"waveform": (S,), "labels": ...}`.

    A recording that is longer than the model's input gives random parts of it, as many in an epoch as would cover it,
    or for evaluation the part in its middle. The parts are drawn from the seed, the epoch and the number of the row
    only, so that a training that continues draws those that it would have drawn without the interruption. As a
    callback of `Trainer`, the rows learn the epoch.

    Args:
        data: Where the recordings are, and how they are labelled.
        clips: Those to use.
        sampling_rate: In Hz.
        duration_s: Length of the model's input.
        random: Whether to take random parts.
        seed: Seed of the parts.
    """

    def __init__(
        self,
        data: LabelledData,
        clips: Sequence[Clip],
        *,
        sampling_rate: int,
        duration_s: float,
        random: bool = False,
        seed: int = 0,
    ):
        self.data = data
        self.sampling_rate = sampling_rate
        self.duration_s = duration_s
        self.random = random
        self.seed = seed
        # In shared memory, so that worker processes that live longer than an epoch learn the next one
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()
        self.rows = [
            clip for clip in clips for _ in range(max(1, round(clip.duration_s / duration_s)) if random else 1)
        ]
        self._reader: Reader | None = None

    def set_epoch(self, epoch: int) -> None:
        """Draw the parts of this epoch, counted from 0, from now on."""
        self._epoch.fill_(epoch)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin the epoch of `Trainer`."""
        self.set_epoch(math.floor((state.epoch or 0.0) + 1e-6))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.rows[index]
        place = np.random.default_rng((self.seed, int(self._epoch), index)).random() if self.random else 0.5
        if self._reader is None:  # one per process
            self._reader = self.data.source.reader()
        with self._reader.open(clip.name, clip.index) as recording:
            waveform, _ = audio.read(
                recording,
                self.sampling_rate,
                start_s=place * max(0.0, clip.duration_s - self.duration_s),
                duration_s=self.duration_s,
            )
        labels = self.data.targets([clip])[0] if self.data.multi_label else clip.labels[0]
        return {"waveform": waveform, "labels": labels}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}
