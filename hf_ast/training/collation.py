"""Rows with waveforms -> batches of augmented spectrograms, for the dataloader of `Trainer`."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modules_passt_mel import PaSSTMel

from .augmentation import Augmentation, smooth_labels
from .sampling import DRAW, multi_hot, seeded_generator


class TrainingCollator:
    """Data collator: waveforms are augmented, become spectrograms as in inference, and are augmented again.

    Only rows of `TrainingRows` are augmented, so that the same collator serves the evaluation set of a `Trainer`. It
    needs `TrainingArguments(remove_unused_columns=False)`, without which `Trainer` takes the waveforms away.

    All draws of a batch are seeded by `seed`, the epoch, and the numbers of its rows. They are the same in any worker
    process and after a training is resumed. They differ between epochs, and between the processes of a distributed
    training. Another batch size gives other draws.

    Args:
        feature_extractor: Pads and masks as its settings say, which are those of inference. `attention_mask` is left
            out where no clip is padded, unless the extractor always returns it.
        augmentation: None for no augmentation.
        num_labels: C.
        multi_label: Whether a clip may have several classes. Labels are then floats (B, C). Otherwise they are class
            indices (B,), or soft labels (B, C) from mixup and label smoothing; the model's config needs
            `problem_type="single_label_classification"` then, for it could not tell them from multi-label ones.
        seed: Seed of the augmentation, at least 0.

    Raises:
        ValueError: The augmentation has jitter of the mel scale, which only PaSST's feature extractor takes.
    """

    def __init__(
        self,
        feature_extractor: SpectrogramFeatureExtractor,
        augmentation: Augmentation | None = None,
        *,
        num_labels: int,
        multi_label: bool,
        seed: int = 0,
    ):
        self.feature_extractor = feature_extractor
        self.augmentation = augmentation or Augmentation()
        self.num_labels = num_labels
        self.multi_label = multi_label
        self.seed = seed
        self._jitter: PaSSTMel | None = None
        low, high = self.augmentation.low_frequency_jitter_hz, self.augmentation.high_frequency_jitter_hz
        if low or high:
            self._jitter = PaSSTMel.from_extractor(
                feature_extractor, low_frequency_jitter_hz=low, high_frequency_jitter_hz=high
            )

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Make a batch.

        Args:
            rows: Each with a `waveform` (S,), mono, at the rate of the extractor, and `labels` as `multi_hot` takes
                them, or none of them with labels.

        Returns:
            `input_values` (B, T, M), `attention_mask` (B, T) if clips are padded, and `labels`.

        Raises:
            ValueError: Rows lack a waveform, or some of them labels or the draw of `TrainingRows`; or what the feature
                extractor raises.
        """
        _check_rows(rows)
        waveforms = [torch.as_tensor(np.asarray(row["waveform"], dtype=np.float32)) for row in rows]
        generator = self._generator(rows)
        if generator is None:
            labels = self._labels(rows)
            batch = self._extracted(self.feature_extractor, waveforms)
        else:
            soft = self.augmentation.makes_soft_labels
            labels = self._labels(rows, soft=soft)
            targets = labels if soft and labels is not None else torch.zeros(len(rows), 0)
            waveforms, targets = self.augmentation.waveforms(waveforms, targets, generator)
            batch = self._extracted(self._jittered(generator), waveforms)
            features, mask = batch["input_values"], batch.get("attention_mask")
            features = self.augmentation.features(features, mask, generator, mask_value=self._mask_value)
            batch["input_values"], targets = self.augmentation.mixed_features(features, targets, mask, generator)
            if soft and labels is not None:
                labels = smooth_labels(targets, self.augmentation.label_smoothing, multi_label=self.multi_label)
        return batch if labels is None else batch | {"labels": labels}

    @property
    def _mask_value(self) -> float:
        """Return what SpecAugment masks with: officially 0 before the normalisation."""
        extractor = self.feature_extractor
        return -extractor.mean / (2 * extractor.std) if extractor.do_normalize else 0.0

    @staticmethod
    def _extracted(extractor: SpectrogramFeatureExtractor, waveforms: list[Tensor]) -> dict[str, Tensor]:
        """Return the spectrograms, and their mask where it says something."""
        batch = dict(extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt"))
        if "attention_mask" in batch and not extractor.return_attention_mask and batch["attention_mask"].all():
            del batch["attention_mask"]
        return batch

    def _generator(self, rows: Sequence[dict[str, Any]]) -> torch.Generator | None:
        """Return the source of randomness of a batch; None if its rows are not to be augmented."""
        draws = [row[DRAW] for row in rows if DRAW in row]
        if not draws:
            return None
        return seeded_generator(self.seed, draws[0][0], *(index for _, index in draws))

    def _labels(self, rows: Sequence[dict[str, Any]], *, soft: bool = False) -> Tensor | None:
        if "labels" not in rows[0]:
            return None
        if not (soft or self.multi_label) and all(np.ndim(row["labels"]) == 0 for row in rows):
            return torch.tensor([int(row["labels"]) for row in rows])
        return torch.stack([multi_hot(row["labels"], self.num_labels) for row in rows])

    def _jittered(self, generator: torch.Generator) -> SpectrogramFeatureExtractor:
        """Return the feature extractor, with other edges of the mel scale if the augmentation draws them."""
        if self._jitter is None:
            return self.feature_extractor
        draws = self._jitter.draw(0, generator)
        extractor: Any = copy.copy(self.feature_extractor)
        extractor.low_frequency_hz, extractor.high_frequency_hz = draws.low_frequency_hz, draws.high_frequency_hz
        return extractor


def _check_rows(rows: Sequence[dict[str, Any]]) -> None:
    if not all("waveform" in row for row in rows):
        keys = sorted(next(row for row in rows if "waveform" not in row))
        raise ValueError(
            f"A row holds {keys}, but no waveform. Pass TrainingArguments(remove_unused_columns=False): Trainer takes "
            "away what the model does not know."
        )
    for key in ("labels", DRAW):
        num_with = sum(key in row for row in rows)
        if 0 < num_with < len(rows):
            raise ValueError(f"{key!r} is in {num_with} of {len(rows)} rows of a batch; it must be in all or in none.")
