"""Trainings that are killed, or told to end, again and again, and are resumed until they are done."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_ast import HfASTFeatureExtractor
from hf_ast.data.labelled import read_data
from hf_ast.training.finetune import finetune
from hf_ast.training.output import saved_states
from hf_ast.training.presets import Preset
from hf_ast.training.pretraining import pretrain
from tests.support.labelled import write_folder
from tests.support.tiny import SIZE, tiny_model

NUM_INTERRUPTIONS = 20
# Crops, masks, mixup, an average, and an evaluation every three of thirty-six steps
RECIPE = Preset(
    learning_rate=1e-3, num_epochs=12, batch_size=10, mixup_probability=0.5, max_noise=0.1, max_mel_mask=0.2,
    average_from_epoch=3,
)  # fmt: skip


class Slowly(TrainerCallback):
    """Gives a signal time to come, in a step and while a state is saved."""

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(0.05)

    on_save = on_step_end


def fine_tuned(folder: Path, output: Path, resume: bool) -> None:
    data = read_data(folder / "recordings")
    settings: dict[str, Any] = {"preset": RECIPE, "duration_s": 0.25, "eval_every": 3, "num_workers": 0}
    finetune(data, output, model=folder / "model", resume=resume, callbacks=[Slowly()], **settings)


def pretrained(folder: Path, output: Path, resume: bool) -> None:
    settings: dict[str, Any] = {"duration_s": 0.32, "num_steps": 36, "eval_every": 3, "batch_size": 8}
    config = {"num_mel_bins": 32, **SIZE}
    pretrain(
        folder / "recordings", output, config=config, num_workers=0, resume=resume, callbacks=[Slowly()], **settings
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    write_folder(folder / "recordings")
    tiny_model().save_pretrained(folder / "model")
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder / "model")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("train", [fine_tuned, pretrained])
def test_twenty_interruptions_leave_the_weights_of_a_run_without_any(
    train: Callable[[Path, Path, bool], None], number: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    whole, output = tmp_path / "whole", tmp_path / "interrupted"
    train(folder, whole, False)
    chance, num_struck = random.Random(0), 0
    expected_statuses = {0, -signal.SIGKILL} if number == signal.SIGKILL else {0, 143, -signal.SIGTERM}
    while num_struck < NUM_INTERRUPTIONS or not (output / "config.json").exists():
        if num_struck and (output / "config.json").exists():  # it was faster: once more, in another folder
            assert same_weights(whole, output)
            output = tmp_path / f"interrupted-{num_struck}"
        process = multiprocessing.get_context("fork").Process(
            target=train, args=(folder, output, bool(saved_states(output)))
        )
        process.start()
        process.join(chance.uniform(0.1, 1.5) if num_struck < NUM_INTERRUPTIONS else 300)
        if process.is_alive():
            os.kill(process.pid, number)
            num_struck += 1
            process.join(60)
        assert process.exitcode in expected_statuses
    assert same_weights(whole, output)


def same_weights(whole: Path, output: Path) -> bool:
    first, other = (load_file(folder / "model.safetensors") for folder in (whole, output))
    return first.keys() == other.keys() and all(tensor.equal(other[name]) for name, tensor in first.items())
