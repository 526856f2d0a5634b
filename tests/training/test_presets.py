"""Every official recipe, field by field: what its file says, and what the preset makes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from hf_ast import HfASTFeatureExtractor, PaSSTFeatureExtractor
from hf_ast.choices import PresetName
from hf_ast.data.labelled import LabelledData, read_data
from hf_ast.training.finetune import make_trainer, settle
from hf_ast.training.preparation import load_for_training
from hf_ast.training.presets import PRESETS, Preset
from hf_ast.training.recipe_trainer import training_arguments
from hf_ast.training.schedules import warmup_cosine
from tests.support.labelled import write_folder
from tests.support.tiny import passt_extractor, tiny_config, tiny_model, tiny_passt

AST = ("YuanGongND/ast", "31088be8")
SSAST = ("YuanGongND/ssast", "a1a3eecb")
PASST = ("kkoutini/PaSST", "2a5c818a")
ADAM = {"adam_beta1": 0.95, "weight_decay": 5e-7}  # src/traintest.py of AST and SSAST
# get_optimizer and the data sets' pydub_augment, get_roll_func and MixupDataset, the same in each file of PaSST
OF_PASST = {
    "adam_beta1": 0.9, "weight_decay": 1e-4, "schedule": "ramp", "spectrogram_mixup_alpha": 0.3, "max_gain_db": 7,
    "max_shift": 50, "low_frequency_jitter_hz": 10, "high_frequency_jitter_hz": 2000, "position_crop": "random",
    "max_noise": 0.0, "max_roll": 0, "max_grad_norm": 0.0, "layer_decay": 1.0, "head_multiplier": 1.0,
}  # fmt: skip
WAVMIX = {"mixup_probability": 0.5, "mixup_alpha": 2.0, "mixup_favors_own": True}
SLOW_RAMP = {"warmup_epochs": 5, "decay_start_epoch": 50, "decay_epochs": 50}
# Preset -> repository and commit, file, values there. Masks are mel bins and frames, patchout is rows and columns
FACTS: dict[str, tuple[tuple[str, str], str, dict[str, Any]]] = {
    "audioset": (AST, "egs/audioset/run.sh, set=full", ADAM | {
        "learning_rate": 1e-5, "num_epochs": 5, "batch_size": 12, "masks": (48, 192), "max_length": 1024,
        "mixup_probability": 0.5, "mixup_alpha": 10.0, "balanced": True, "average_from_epoch": 1,
        "schedule_settings": {"first_epoch": 2, "factor": 0.5, "warmup": True}, "max_noise": 0.0, "max_roll": 0,
    }),
    "esc50": (AST, "egs/esc50/run_esc.sh, audiosetpretrain=True", ADAM | {
        "learning_rate": 1e-5, "num_epochs": 25, "batch_size": 48, "masks": (24, 96), "max_length": 512,
        "mixup_probability": 0.0, "balanced": False, "average_from_epoch": None, "stats": "data",
        "schedule_settings": {"first_epoch": 5, "factor": 0.85}, "max_noise": 0.0, "max_roll": 0,
    }),
    "speech-commands": (AST, "egs/speechcommands/run_sc.sh", ADAM | {
        "learning_rate": 2.5e-4, "num_epochs": 30, "batch_size": 128, "masks": (48, 48), "max_length": 128,
        "mixup_probability": 0.6, "balanced": False, "average_from_epoch": None, "stats": "data",
        "schedule_settings": {"first_epoch": 5, "factor": 0.85}, "max_noise": 0.1, "max_roll": 10,
    }),
    "ssast-audioset": (SSAST, "src/finetune/audioset/run_as.sh, set=balanced", ADAM | {
        "learning_rate": 5e-5, "num_epochs": 25, "batch_size": 12, "masks": (48, 192), "max_length": 1024,
        "mixup_probability": 0.5, "balanced": False, "average_from_epoch": 6, "head_multiplier": 1.0,
        "schedule_settings": {"first_epoch": 10, "every_epochs": 5, "factor": 0.5}, "max_noise": 0.0,
    }),
    "ssast-esc50": (SSAST, "src/finetune/esc50/run_esc_patch.sh and run_esc_frame.sh", ADAM | {
        "learning_rate": 1e-4, "num_epochs": 50, "batch_size": 48, "masks": (24, 96), "max_length": 512,
        "mixup_probability": 0.0, "balanced": False, "average_from_epoch": None, "head_multiplier": 1.0,
        "schedule_settings": {"first_epoch": 6, "factor": 0.85}, "max_noise": 0.1, "max_roll": 10, "stats": "data",
    }),
    "ssast-speech-commands": (SSAST, "src/finetune/speechcommands_v2_35/run_sc.sh", ADAM | {
        "learning_rate": 2.5e-4, "num_epochs": 30, "batch_size": 128, "masks": (48, 48), "max_length": 128,
        "mixup_probability": 0.6, "balanced": False, "average_from_epoch": None, "head_multiplier": 1.0,
        "schedule_settings": {"first_epoch": 5, "factor": 0.85, "warmup": True}, "max_noise": 0.1, "stats": "data",
    }),
    "fsd50k": (PASST, "ex_fsd50k.py, fsd50k/dataset.py", OF_PASST | WAVMIX | {
        "learning_rate": 1e-5, "num_epochs": 50, "batch_size": 12, "masks": (0, 0), "patchout": (4, 10),
        "schedule_settings": {"warmup_epochs": 5, "decay_start_epoch": 10, "decay_epochs": 10},
        "balanced": False, "average_from_epoch": 10, "average_every_epochs": 3,
    }),
    "passt-audioset": (PASST, "ex_audioset.py, audioset/dataset.py", OF_PASST | WAVMIX | {
        "learning_rate": 2e-5, "num_epochs": 130, "batch_size": 12, "masks": (48, 192), "patchout": (4, 40),
        "schedule_settings": SLOW_RAMP, "balanced": True, "balance_offset": 100.0, "rows_per_epoch": 100_000,
        "average_from_epoch": 50, "average_every_epochs": 5,
    }),
    "passt-esc50": (PASST, "ex_esc50.py, esc50/dataset.py", OF_PASST | {
        "learning_rate": 1e-5, "num_epochs": 10, "batch_size": 12, "masks": (48, 80), "patchout": (3, 10),
        "schedule_settings": SLOW_RAMP, "balanced": False, "average_from_epoch": 2, "average_every_epochs": 1,
        "mixup_probability": 0.0,
    }),
    "openmic": (PASST, "ex_openmic.py, openmic/dataset.py", OF_PASST | WAVMIX | {
        "learning_rate": 1e-5, "num_epochs": 10, "batch_size": 6, "masks": (48, 192), "patchout": (4, 40),
        "schedule_settings": SLOW_RAMP, "balanced": False, "average_from_epoch": 2, "average_every_epochs": 1,
    }),
}  # fmt: skip
# Frames of the official inputs of PaSST, and columns of their grids; there are 12 rows
PASST_INPUTS = {"passt-esc50": (500, 49)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    return read_data(write_folder(tmp_path_factory.mktemp("data") / "recordings"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    tiny_model().save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", FACTS)
def test_a_preset_has_the_values_of_its_official_file(name: str) -> None:
    preset, facts = PRESETS[name], dict(FACTS[name][2])
    masks, patchout = facts.pop("masks"), facts.pop("patchout", None)
    for field, value in facts.items():
        assert getattr(preset, field) == value, field
    frames, columns = PASST_INPUTS.get(name, (preset.max_length or 998, 99))
    extractor = (PaSSTFeatureExtractor if patchout else HfASTFeatureExtractor)(max_length=frames)
    augmentation = preset.augmentation(extractor)
    assert (augmentation.max_mel_mask, augmentation.max_time_mask) == masks
    for field in ("mixup_favors_own", "max_gain_db", "max_shift", "high_frequency_jitter_hz"):
        assert getattr(augmentation, field) == getattr(preset, field), field
    if patchout:
        assert (round(preset.frequency_patchout * 12), round(preset.time_patchout * columns)) == patchout


def test_every_preset_has_its_facts_and_a_name_on_the_command_line() -> None:
    assert PRESETS.keys() - FACTS.keys() == {"small-data"}
    assert set(get_args(PresetName)) == PRESETS.keys()


def trainer_of(preset: Preset, data: LabelledData, start: Path, folder: Path, rows_per_step: int) -> Any:
    network, extractor, data = load_for_training(start, data, preset)
    settled, per_epoch = settle(preset, network, extractor, data, rows_per_step)
    arguments = training_arguments(folder, settled, eval_every=per_epoch, has_validation=True)
    trainer = make_trainer(network, extractor, data, settled, arguments)
    trainer.create_optimizer_and_scheduler(round(settled.num_epochs * per_epoch))
    return trainer


def test_rates_of_a_training_follow_the_official_schedule(data: LabelledData, start: Path, tmp_path: Path) -> None:
    trainer = trainer_of(replace(PRESETS["esc50"], batch_size=10), data, start, tmp_path, 10)
    assert trainer.model.config.max_length == 512
    rates = []
    for _ in range(75):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    # Three steps per epoch, 25 epochs
    expected = np.array([1e-5 * 0.85 ** max(0, epoch - 4) for epoch in range(25)])
    np.testing.assert_allclose(rates, expected.repeat(3), rtol=1e-9)
    group = trainer.optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.95, 0.999), 5e-7)


def test_the_default_has_a_rate_for_the_width_and_steps_for_the_data(
    data: LabelledData, start: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(PRESETS["small-data"], data, start, tmp_path, 16)
    # A width of 32 instead of 96, and 30 recordings, so that two steps are an epoch
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert rates["embeddings, decayed"] == pytest.approx(9 * 3e-3)
    assert rates["head, decayed"] == pytest.approx(90 * 3e-3)
    assert trainer.args.num_train_epochs == 400
    base = PRESETS["small-data"].settled(hidden_size=768, num_rows=2000, rows_per_step=16)
    assert (base.learning_rate, base.num_epochs) == (pytest.approx(3e-3 / 64), 20)


@pytest.mark.parametrize("num_steps", [1, 2, 10, 100])
def test_no_step_of_the_default_schedule_has_a_rate_of_zero(num_steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, num_steps)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert min(rates) > 0
    assert max(rates) == 1.0
    if num_steps == 100:
        # Ten steps up, and a half period of a cosine over the other ninety: a straight line would be at 0.505
        assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
        assert rates[32] == pytest.approx(0.5 * (1 + np.cos(np.pi * 23 / 91)))
        assert rates[99] == pytest.approx(0.5 * (1 + np.cos(np.pi * 90 / 91)))


def test_a_passt_is_trained_with_patchout_by_default(data: LabelledData, tmp_path: Path) -> None:
    def patchout(**changes: Any) -> tuple[int, int]:
        network, _, _ = load_for_training(tmp_path, data, replace(PRESETS["small-data"], **changes))
        return network.config.frequency_patchout, network.config.time_patchout

    passt_extractor().save_pretrained(tmp_path)
    tiny_passt().save_pretrained(tmp_path)
    # Of 5 rows and 12 columns
    assert patchout() == (1, 4)
    assert patchout(time_patchout=0.5) == (0, 6)
    assert patchout(time_patchout=0.0) == (0, 0)
    tiny_passt(time_patchout=3).save_pretrained(tmp_path)
    assert patchout() == (0, 3)


def test_other_families_are_trained_without_patchout(data: LabelledData, start: Path) -> None:
    network, _, _ = load_for_training(start, data, PRESETS["small-data"])
    assert (network.config.time_patchout, network.config.frequency_patchout) == (0, 0)
    assert network.config.hidden_size == tiny_config().hidden_size
