"""Rows with waveforms -> batches of augmented spectrograms, for the dataloader of `Trainer`."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modules_classification import IGNORED_LABEL
from hf_ast.models.modules_passt_mel import PaSSTMel

from .augmentation import Augmentation, mixup_spectrograms, mixup_waveforms, mixup_weights, smooth_labels
from .sampling import DRAW, PARTNER_DRAWS, Draw, multi_hot

Row = dict[str, Any]


class TrainingCollator:
    """Data collator: waveforms are augmented, become spectrograms as in inference, and are augmented again.

    The augmentation is that of `TrainingRows`; rows of other datasets, such as the evaluation set of a `Trainer`, are
    not augmented. The collator needs `TrainingArguments(remove_unused_columns=False)`, without which `Trainer` removes
    the waveforms.

    The result for a row does not depend on the batch that it is in, so that a step is the same in one batch, in
    several that are accumulated, and on several processes. Mixup takes its partners from the whole training set.

    Args:
        feature_extractor: Pads and masks according to its settings, as in inference. `attention_mask` is left out
            where no clip is padded, unless the extractor always returns it.
        num_labels: C.
        multi_label: Whether a clip may have several classes. Labels are then floats (B, C). Otherwise they are class
            indices (B,), or soft labels (B, C) from mixup and label smoothing; for these, the model's config needs
            `problem_type="single_label_classification"`, as it cannot tell them from multi-label ones.
    """

    def __init__(self, feature_extractor: SpectrogramFeatureExtractor, *, num_labels: int, multi_label: bool):
        self.feature_extractor = feature_extractor
        self.num_labels = num_labels
        self.multi_label = multi_label
        self._jitters: dict[Augmentation, PaSSTMel] = {}

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Make a batch.

        Args:
            rows: Each with a `waveform` (S,), mono, at the sampling rate of the extractor, and `labels` as `multi_hot`
                takes them; either all rows have labels or none.

        Returns:
            `input_values` (B, T, M), `attention_mask` (B, T) if clips are padded, and `labels`, -100 for rows that do
            not count.

        Raises:
            ValueError: A row lacks a waveform; only some rows have labels or the draw of `TrainingRows`; the
                augmentation jitters the mel scale, which only PaSST's feature extractor supports; or the feature
                extractor rejects a waveform.
        """
        _check_rows(rows)
        if DRAW in rows[0]:
            batch = self._augmented_batch(rows)
        else:
            batch = self._extracted([_waveform(row) for row in rows]) | self._labels(rows)
        mask = batch.get("attention_mask")
        if mask is not None and not self.feature_extractor.return_attention_mask and mask.all():
            del batch["attention_mask"]
        return batch

    def _augmented_batch(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return the batch of rows that have a draw."""
        draws: list[Draw] = [row[DRAW] for row in rows]
        soft = any(draw.rows.augmentation.makes_soft_labels for draw in draws)
        batch = self._augmented(rows, soft=soft)
        if any(draw.rows.augmentation.spectrogram_mixup_alpha for draw in draws):
            batch |= self._mixed(batch, draws)
        if "labels" in batch:
            if soft:
                batch["labels"] = torch.stack(
                    [self._smoothed(*pair) for pair in zip(batch["labels"], draws, strict=True)]
                )
            batch["labels"][[not draw.counts for draw in draws]] = IGNORED_LABEL
        return batch

    def _augmented(self, rows: Sequence[Row], *, soft: bool) -> dict[str, Tensor]:
        """Return spectrograms, mask and labels with all augmentation except the mixup of spectrograms."""
        augmentations: list[Augmentation] = [row[DRAW].rows.augmentation for row in rows]
        generators = [row[DRAW].generator() for row in rows]
        heard = [self._heard(*arguments) for arguments in zip(rows, augmentations, generators, strict=True)]
        extractors = [self._extractor(*pair) for pair in zip(augmentations, generators, strict=True)]
        batch = self._extracted([row["waveform"] for row in heard], extractors)
        features, mask = batch["input_values"], batch.get("attention_mask")
        for number, (augmentation, generator) in enumerate(zip(augmentations, generators, strict=True)):
            # The clip alone, so that the draws do not depend on how far the batch is padded
            real = slice(None) if mask is None else _run_of_ones(mask[number])
            clip = features[number : number + 1, real]
            clip_mask = None if mask is None else mask[number : number + 1, real]
            clip.copy_(augmentation.features(clip, clip_mask, generator, mask_value=self._mask_value))
        return batch | self._labels(heard, soft=soft)

    def _heard(self, row: Row, augmentation: Augmentation, generator: torch.Generator) -> Row:
        """Return a row with its waveform augmented, and perhaps mixed with another one of the dataset."""
        waveform = augmentation.waveform(_waveform(row), generator)
        if not augmentation.mixup_probability:
            return row | {"waveform": waveform}
        if torch.rand((), generator=generator) >= augmentation.mixup_probability:
            return row | {"waveform": waveform}
        dataset = row[DRAW].rows.dataset
        partner = dataset[int(torch.randint(len(dataset), (), generator=generator))]
        weight = mixup_weights(
            1, augmentation.mixup_alpha, favors_own=augmentation.mixup_favors_own, generator=generator
        )
        other = augmentation.waveform(_waveform(partner), generator)
        mixed = row | {"waveform": mixup_waveforms(waveform, other, weight[0])}
        if "labels" in row:
            own, others = (multi_hot(one["labels"], self.num_labels) for one in (row, partner))
            mixed["labels"] = weight * own + (1 - weight) * others
        return mixed

    def _mixed(self, batch: dict[str, Tensor], draws: Sequence[Draw]) -> dict[str, Tensor]:
        """Mix the spectrograms of a batch, each with an augmented one of the epoch."""
        generators = [draw.generator(PARTNER_DRAWS) for draw in draws]
        pairs = list(zip(draws, generators, strict=True))
        weights = torch.cat([_spectrogram_weight(draw, generator) for draw, generator in pairs])
        partners = self._augmented([draw.partner(generator) for draw, generator in pairs], soft=True)
        features = batch["input_values"]
        others = torch.full_like(features, self.feature_extractor.padding_value)
        num_frames = min(features.shape[1], partners["input_values"].shape[1])
        others[:, :num_frames] = partners["input_values"][:, :num_frames]
        mixed = {"input_values": mixup_spectrograms(features, others, weights, batch.get("attention_mask"))}
        if "labels" in batch:
            mixed["labels"] = weights[:, None] * batch["labels"] + (1 - weights[:, None]) * partners["labels"]
        return mixed

    def _smoothed(self, labels: Tensor, draw: Draw) -> Tensor:
        epsilon = draw.rows.augmentation.label_smoothing
        return smooth_labels(labels[None], epsilon, multi_label=self.multi_label)[0]

    @property
    def _mask_value(self) -> float:
        """Return the value that SpecAugment masks with: officially 0 before normalisation."""
        extractor = self.feature_extractor
        return -extractor.mean / (2 * extractor.std) if extractor.do_normalize else 0.0

    def _extracted(
        self, waveforms: list[Tensor], extractors: Sequence[SpectrogramFeatureExtractor] = ()
    ) -> dict[str, Tensor]:
        """Return the spectrograms and their mask, each from an extractor of its own if these differ."""
        extractor = self.feature_extractor
        rate = extractor.sampling_rate
        if all(other is extractor for other in extractors):
            return dict(extractor(waveforms, sampling_rate=rate, return_tensors="pt"))
        own: Any = [
            dict(other(waveform, sampling_rate=rate, return_tensors="np"))
            for other, waveform in zip(extractors, waveforms, strict=True)
        ]
        clips = [{name: values[0] for name, values in clip.items()} for clip in own]
        return dict(extractor.pad(clips, return_tensors="pt"))

    def _labels(self, rows: Sequence[Row], *, soft: bool = False) -> dict[str, Tensor]:
        if "labels" not in rows[0]:
            return {}
        if not (soft or self.multi_label) and all(np.ndim(row["labels"]) == 0 for row in rows):
            return {"labels": torch.tensor([int(row["labels"]) for row in rows])}
        return {"labels": torch.stack([multi_hot(row["labels"], self.num_labels) for row in rows])}

    def _extractor(self, augmentation: Augmentation, generator: torch.Generator) -> SpectrogramFeatureExtractor:
        """Return the feature extractor, with random edges of the mel scale if the augmentation draws them."""
        low, high = augmentation.low_frequency_jitter_hz, augmentation.high_frequency_jitter_hz
        if not (low or high):
            return self.feature_extractor
        if augmentation not in self._jitters:
            self._jitters[augmentation] = PaSSTMel.from_extractor(
                self.feature_extractor, low_frequency_jitter_hz=low, high_frequency_jitter_hz=high
            )
        draws = self._jitters[augmentation].draw(0, generator)
        extractor: Any = copy.copy(self.feature_extractor)
        extractor.low_frequency_hz, extractor.high_frequency_hz = draws.low_frequency_hz, draws.high_frequency_hz
        return extractor


def _run_of_ones(mask: Tensor) -> slice:
    """Return where the ones of a mask (T,) are."""
    first = int(mask.argmax())
    return slice(first, first + int(mask.sum()))


def _waveform(row: Row) -> Tensor:
    return torch.as_tensor(np.asarray(row["waveform"], dtype=np.float32))


def _spectrogram_weight(draw: Draw, generator: torch.Generator) -> Tensor:
    """Draw the weight (1,) of a row in the mixup of spectrograms; 1 if it is not mixed."""
    alpha = draw.rows.augmentation.spectrogram_mixup_alpha
    return mixup_weights(1, alpha, favors_own=True, generator=generator) if alpha else torch.ones(1)


def _check_rows(rows: Sequence[Row]) -> None:
    if not all("waveform" in row for row in rows):
        keys = sorted(next(row for row in rows if "waveform" not in row))
        raise ValueError(
            f"A row holds {keys}, but no waveform. Pass TrainingArguments(remove_unused_columns=False): Trainer "
            "removes columns that the model does not know."
        )
    for key in ("labels", DRAW):
        num_with = sum(key in row for row in rows)
        if 0 < num_with < len(rows):
            raise ValueError(f"{key!r} is in {num_with} of {len(rows)} rows of a batch; it must be in all or in none.")
