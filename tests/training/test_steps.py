"""A step is the same in one batch, in batches that are accumulated, and in batches on several processes."""

import os
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments, set_seed

from hf_ast.training.augmentation import Augmentation
from hf_ast.training.collation import TrainingCollator
from hf_ast.training.presets import Preset
from hf_ast.training.recipe_trainer import RecipeTrainer
from hf_ast.training.sampling import TrainingRows
from tests.support.tiny import passt_extractor, tiny_passt, waveforms

MASKS_AND_NOISE = Augmentation(
    max_gain_db=7, max_shift=50, max_mel_mask=8, max_time_mask=12, max_noise=0.1, max_roll=5
)
MIXUP = replace(MASKS_AND_NOISE, mixup_probability=0.6, spectrogram_mixup_alpha=0.3, label_smoothing=0.1)
KINDS = ("single-label", "multi-label", "soft")
NUM_STEPS = 10
# The gradients are sums in other orders, in float32. Ten steps of Adam are up to 5e-3 long; the largest difference is
# 1e-5
CLOSE = {"atol": 2e-5, "rtol": 0.0}


def trained(
    folder: Path, kind: str, num_clips: int, batch_size: int, accumulation: int = 1, seed: int = 0
) -> dict[str, Tensor]:
    """Weights after ten steps of eight clips of different lengths; the last step of an epoch has fewer."""
    set_seed(0)
    multi_label = kind == "multi-label"
    model = tiny_passt(problem_type=f"{'multi' if multi_label else 'single'}_label_classification")
    clips: list[dict[str, Any]] = [
        {"waveform": clip[: 6400 - 700 * (number % 4)].numpy(), "labels": number % 5}
        for number, clip in enumerate(waveforms(num_clips, 6400))
    ]
    if multi_label:
        for number, row in enumerate(clips):
            row["labels"] = [row["labels"], 4] if number % 3 else []
    rows = TrainingRows(clips, MASKS_AND_NOISE if kind == "single-label" else MIXUP, seed=seed)
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_steps=NUM_STEPS,
        learning_rate=1e-3,
        max_grad_norm=1.0,
        remove_unused_columns=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
    )
    trainer = RecipeTrainer(
        model,
        arguments,
        preset=Preset(learning_rate=1e-3, num_epochs=4, batch_size=8),
        main_metric="accuracy",
        train_dataset=rows,
        data_collator=TrainingCollator(passt_extractor(), num_labels=5, multi_label=multi_label),
        callbacks=[rows],
    )
    trainer.train()
    assert trainer.state.global_step == NUM_STEPS
    weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    for name, tensor in weights.items():
        if name.endswith("qkv.bias"):
            # Softmax does not see the biases of keys. Their gradients are rounding errors, which Adam makes large
            tensor[32:64] = 0.0
    return weights | {
        "losses": torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, **CLOSE, msg=partial("{}: {}".format, name))


@pytest.mark.parametrize("kind", ["single-label", pytest.param("multi-label", marks=pytest.mark.slow), "soft"])
def test_accumulated_batches(kind: str, tmp_path: Path) -> None:
    # Steps of 8, 8 and 5 clips: 4 + 4, 4 + 4 and 4 + 1
    whole = trained(tmp_path, kind, 21, 8)
    start = dict(tiny_passt().named_parameters())
    assert max((whole[name] - tensor).abs().max().item() for name, tensor in start.items()) > 5e-3
    assert_same(trained(tmp_path, kind, 21, 4, accumulation=2), whole)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    first, again = (trained(tmp_path, "soft", 21, 8, seed=7) for _ in range(2))
    torch.testing.assert_close(again, first, atol=0, rtol=0)
    other = trained(tmp_path, "soft", 21, 8, seed=8)
    assert (other["losses"] - first["losses"]).abs().max() > 1e-2


def train_all(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for kind in KINDS:
        for num_clips in (21, 18):
            result = trained(folder, kind, num_clips, 4)
            if rank == 0:
                torch.save(result, folder / f"{kind} {num_clips}")


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "again"]
    for folder in folders:
        folder.mkdir()
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
        torch.multiprocessing.spawn(train_all, (port, folder), nprocs=2)
    for kind in KINDS:
        # The last step of an epoch is 4 + 1 clips, or 2 clips in one process and none in the other
        for num_clips in (21, 18):
            first, again = (torch.load(folder / f"{kind} {num_clips}") for folder in folders)
            torch.testing.assert_close(again, first, atol=0, rtol=0)
            assert_same(first, trained(tmp_path, kind, num_clips, 8))
