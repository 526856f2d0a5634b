"""Recipes for fine-tuning: those of the official code, and one for small data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from transformers.utils import logging

from hf_ast import PaSSTFeatureExtractor
from hf_ast.choices import PresetName, expect_one_of
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

from .augmentation import Augmentation

logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings of a training run.

    Attributes:
        learning_rate: Peak learning rate of the backbone.
        width: Hidden size of the models that this rate is for; for others it falls with the square of theirs. None if
            it is for all.
        num_epochs: Number of epochs.
        min_steps: Where the epochs are fewer optimiser steps than this, there are more epochs.
        patience: Share of the steps after which training ends if nothing has improved; None to train to the end.
        batch_size: Recordings per forward pass and process.
        schedule: "cosine", which is `warmup_cosine`; "steps", which is `step_decay` of AST; or "ramp", which is
            `exponential_warmup_linear_decay` of PaSST.
        schedule_settings: Arguments of these functions.
        adam_beta1, weight_decay: Settings of AdamW.
        max_grad_norm: Norm to which gradients are clipped; 0 for no clipping.
        layer_decay, head_multiplier: Learning rates of layers and of the head; see `parameter_groups`.
        max_mel_mask, max_time_mask: Upper bounds of SpecAugment's mask widths, as fractions of the model's input.
        max_noise, max_roll: See `noise_and_roll`.
        mixup_probability, mixup_alpha, mixup_favors_own, spectrogram_mixup_alpha, max_gain_db, max_shift,
            low_frequency_jitter_hz, high_frequency_jitter_hz: See `Augmentation`.
        time_patchout, frequency_patchout, unstructured_patchout: Columns, rows and single patches to drop at random in
            training, as shares of those that the input has. If all are None, those of the checkpoint, and for a PaSST
            without any the official shares, 40 of 99 columns and 4 of 12 rows.
        position_crop: See `SpectrogramConfig`; the position table then keeps its length. None for that of the
            checkpoint.
        balanced, balance_offset: Whether rare classes are drawn as often as frequent ones, by `class_balanced_weights`
            with this offset.
        rows_per_epoch: Rows that are drawn for an epoch with `balanced`, none of them twice; None for as many as there
            are, some of them several times.
        average_from_epoch, average_every_epochs: The result is the mean of the weights after these epochs; if
            `average_from_epoch` is None, the weights of the best epoch.
        stats: Where the mean and standard deviation of AST's and SSAST's input come from: "checkpoint" or "data".
        max_length: Frames of the input of AST and SSAST; None for the length of the recordings.
    """

    learning_rate: float
    num_epochs: float
    batch_size: int
    width: int | None = None
    min_steps: int = 0
    patience: float | None = None
    schedule: str = "cosine"
    schedule_settings: Mapping[str, Any] = field(default_factory=dict)
    adam_beta1: float = 0.95
    weight_decay: float = 5e-7
    max_grad_norm: float = 0.0
    layer_decay: float = 1.0
    head_multiplier: float = 1.0
    max_mel_mask: float = 0.0
    max_time_mask: float = 0.0
    max_noise: float = 0.0
    max_roll: int = 0
    mixup_probability: float = 0.0
    mixup_alpha: float = 10.0
    mixup_favors_own: bool = False
    spectrogram_mixup_alpha: float = 0.0
    max_gain_db: int = 0
    max_shift: int = 0
    low_frequency_jitter_hz: int = 0
    high_frequency_jitter_hz: int = 0
    time_patchout: float | None = None
    frequency_patchout: float | None = None
    unstructured_patchout: float | None = None
    position_crop: str | None = None
    balanced: bool = False
    balance_offset: float = 0.01
    rows_per_epoch: int | None = None
    average_from_epoch: int | None = None
    average_every_epochs: int = 1
    stats: str = "checkpoint"
    max_length: int | None = None

    def augmentation(self, feature_extractor: SpectrogramFeatureExtractor) -> Augmentation:
        """Return the augmentation for spectrograms of this size."""
        shared = {name: getattr(self, name) for name in _SHARED}
        if not isinstance(feature_extractor, PaSSTFeatureExtractor) and self.high_frequency_jitter_hz:
            logger.warning("The random mel scale of this preset is left out: only the front end of PaSST has one.")
            shared |= {"low_frequency_jitter_hz": 0, "high_frequency_jitter_hz": 0}
        return Augmentation(
            max_mel_mask=round(self.max_mel_mask * feature_extractor.num_mel_bins),
            max_time_mask=round(self.max_time_mask * feature_extractor.max_length),
            **shared,
        )

    def settled(self, *, hidden_size: int, num_rows: int, rows_per_step: int) -> "Preset":
        """Return the preset with the learning rate and the number of epochs of one training.

        Args:
            hidden_size: That of the model.
            num_rows: Rows of an epoch.
            rows_per_step: Rows of an optimiser step.
        """
        rate = self.learning_rate * (1.0 if self.width is None else (self.width / hidden_size) ** 2)
        epochs = max(self.num_epochs, math.ceil(self.min_steps / math.ceil(num_rows / rows_per_step)))
        return replace(self, learning_rate=rate, width=None, num_epochs=epochs, min_steps=0)


# Fields of `Augmentation` that a preset has under the same name
_SHARED = {field.name for field in fields(Augmentation)} & Preset.__annotations__.keys() - {
    "max_mel_mask",
    "max_time_mask",
}


# egs/*/run*.sh of AST at commit 31088be8, with the optimiser of src/traintest.py (Adam, beta 0.95 and 0.999, weight
# decay 5e-7; here it is AdamW, whose decay does not go through the moments) and the augmentation of src/dataloader.py.
# Masks are fractions of 128 mel bins and of the frames there. tests/training/test_presets.py has the file of each
_AST = {
    # egs/audioset/run.sh with set=full; the warm-up of 1000 steps is in src/traintest.py. `set=balanced` has a
    # learning rate of 5e-5, 25 epochs, no balancing, and halves the rate every 5 epochs from the tenth
    "audioset": Preset(
        learning_rate=1e-5,
        num_epochs=5,
        batch_size=12,
        schedule="steps",
        schedule_settings={"first_epoch": 2, "factor": 0.5, "warmup": True},
        max_mel_mask=48 / 128,
        max_time_mask=192 / 1024,
        mixup_probability=0.5,
        balanced=True,
        average_from_epoch=1,
        max_length=1024,
    ),
    # egs/esc50/run_esc.sh, from a checkpoint of AudioSet (from ImageNet, the learning rate is 1e-4). Its mean and
    # deviation, -6.63 and 5.36, are those of ESC-50
    "esc50": Preset(
        learning_rate=1e-5,
        num_epochs=25,
        batch_size=48,
        schedule="steps",
        schedule_settings={"first_epoch": 5, "factor": 0.85},
        max_mel_mask=24 / 128,
        max_time_mask=96 / 512,
        stats="data",
        max_length=512,
    ),
    # egs/speechcommands/run_sc.sh, from a checkpoint of ImageNet. There the loss is that of multi-label data; here it
    # is cross entropy, so that the scores of a recording sum to one. Its mean and deviation are -6.85 and 5.57
    "speech-commands": Preset(
        learning_rate=2.5e-4,
        num_epochs=30,
        batch_size=128,
        schedule="steps",
        schedule_settings={"first_epoch": 5, "factor": 0.85},
        max_mel_mask=48 / 128,
        max_time_mask=48 / 128,
        max_noise=0.1,
        max_roll=10,
        mixup_probability=0.6,
        stats="data",
        max_length=128,
    ),
}
# src/finetune/*/run_*.sh of SSAST at commit a1a3eecb: what differs from the recipe of AST for the same data. Patches
# and frames are trained alike
_SSAST = {
    # set=balanced, which its paper reports; `--warmup False` on the command line is what counts there
    "ssast-audioset": replace(
        _AST["audioset"],
        learning_rate=5e-5,
        num_epochs=25,
        schedule_settings={"first_epoch": 10, "every_epochs": 5, "factor": 0.5},
        balanced=False,
        average_from_epoch=6,
    ),
    "ssast-esc50": replace(
        _AST["esc50"],
        learning_rate=1e-4,
        num_epochs=50,
        schedule_settings={"first_epoch": 6, "factor": 0.85},
        max_noise=0.1,
        max_roll=10,
    ),
    "ssast-speech-commands": replace(
        _AST["speech-commands"], schedule_settings={"first_epoch": 5, "factor": 0.85, "warmup": True}
    ),
}
# ex_fsd50k.py of PaSST at commit 2a5c818a, with what the data set, fsd50k/dataset.py, does to each recording, and the
# random offset of time positions in models/passt.py. The grid of 10 s, of which 10 columns and 4 rows are dropped, is
# 12 x 99; a random part of a long recording is taken there and here
_FSD50K = Preset(
    learning_rate=1e-5,
    num_epochs=50,
    batch_size=12,
    schedule="ramp",
    schedule_settings={"warmup_epochs": 5, "decay_start_epoch": 10, "decay_epochs": 10},
    adam_beta1=0.9,
    weight_decay=1e-4,
    mixup_probability=0.5,
    mixup_alpha=2.0,
    mixup_favors_own=True,
    spectrogram_mixup_alpha=0.3,
    max_gain_db=7,
    max_shift=50,
    low_frequency_jitter_hz=10,
    high_frequency_jitter_hz=2000,
    time_patchout=10 / 99,
    frequency_patchout=4 / 12,
    position_crop="random",
    average_from_epoch=10,
    average_every_epochs=3,
)
# The others of PaSST, by what differs. Their masks are fractions of 128 mel bins and of 998 frames, or 500 of ESC-50
_PASST = {
    "fsd50k": _FSD50K,
    # ex_audioset.py: each epoch draws 100,000 recordings, none of them twice
    "passt-audioset": replace(
        _FSD50K,
        learning_rate=2e-5,
        num_epochs=130,
        schedule_settings={"warmup_epochs": 5, "decay_start_epoch": 50, "decay_epochs": 50},
        max_mel_mask=48 / 128,
        max_time_mask=192 / 998,
        time_patchout=40 / 99,
        balanced=True,
        balance_offset=100.0,
        rows_per_epoch=100_000,
        average_from_epoch=50,
        average_every_epochs=5,
    ),
    # ex_esc50.py; esc50/README.md has an example with 5 rows of patchout instead of 3. The grid of 5 s is 12 x 49
    "passt-esc50": replace(
        _FSD50K,
        num_epochs=10,
        schedule_settings={"warmup_epochs": 5, "decay_start_epoch": 50, "decay_epochs": 50},
        mixup_probability=0.0,
        max_mel_mask=48 / 128,
        max_time_mask=80 / 500,
        time_patchout=10 / 49,
        frequency_patchout=3 / 12,
        average_from_epoch=2,
        average_every_epochs=1,
    ),
    # ex_openmic.py
    "openmic": replace(
        _FSD50K,
        num_epochs=10,
        batch_size=6,
        schedule_settings={"warmup_epochs": 5, "decay_start_epoch": 50, "decay_epochs": 50},
        max_mel_mask=48 / 128,
        max_time_mask=192 / 998,
        time_patchout=40 / 99,
        average_from_epoch=2,
        average_every_epochs=1,
    ),
}
PRESETS = {
    **_AST,
    **_SSAST,
    **_PASST,
    # Not official: for a few dozen to a few thousand recordings, chosen in BENCHMARKS.md. The rate is that of a model
    # of a width of 96; a base one gets 4.7e-5, between the official 1e-5 and 1e-4. Small data need steps, not epochs
    "small-data": Preset(
        learning_rate=3e-3,
        width=96,
        num_epochs=20,
        min_steps=800,
        patience=0.5,
        batch_size=16,
        adam_beta1=0.9,
        weight_decay=0.01,
        max_grad_norm=1.0,
        head_multiplier=10.0,
    ),
}
DEFAULT_PRESET = "small-data"


def find_preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        ValueError: There is none of that name.
    """
    expect_one_of(PresetName, preset=name)
    return PRESETS[name]


def with_changes(preset: Preset, **changes: Any) -> Preset:
    """Return a preset with the values that are not None; a learning rate or a number of epochs is then taken as it is.

    Args:
        preset: The preset.
        changes: Fields of it.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    if "learning_rate" in changes:
        changes["width"] = None
    if "num_epochs" in changes:
        changes["min_steps"] = 0
    return replace(preset, **changes)
