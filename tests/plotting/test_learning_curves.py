"""Logs of trainings."""

import json
from pathlib import Path

import numpy as np
import pytest

from hf_ast.plotting import learning_curves, plot_learning_curves

LOG = [
    {"step": 10, "epoch": 1.0, "loss": 2.0, "learning_rate": 1e-4, "grad_norm": 0.5},
    {"step": 10, "epoch": 1.0, "eval_loss": 1.5, "eval_accuracy": 0.5, "eval_rating": 0.4, "eval_runtime": 3.0},
    {"step": 20, "epoch": 2.0, "loss": float("nan"), "learning_rate": 5e-5, "grad_norm": 0.4},
    {"step": 20, "epoch": 2.0, "eval_loss": 1.0, "eval_accuracy": 0.75, "eval_samples_per_second": 2.0},
    {"step": 20, "epoch": 2.0, "train_loss": 1.7, "train_runtime": 9.0, "total_flos": 1e9},
]


def write_state(folder: Path, step: int, best: int | None = None) -> None:
    folder.mkdir(parents=True)
    log = [entry for entry in LOG if entry["step"] <= step]
    state = {"log_history": log, "global_step": step, "epoch": step / 10, "best_global_step": best}
    (folder / "trainer_state.json").write_text(json.dumps(state))


def test_the_last_state_of_a_run_is_read_and_drawn(tmp_path: Path) -> None:
    write_state(tmp_path / "checkpoints" / "checkpoint-9", 10)
    write_state(tmp_path / "checkpoints" / "checkpoint-20", 20, best=20)
    curves = learning_curves(tmp_path)
    assert set(curves.training) == {"loss", "learning_rate", "grad_norm"}
    assert {name: (curve.steps, curve.values) for name, curve in curves.validation.items()} == {
        "loss": ([10, 20], [1.5, 1.0]), "accuracy": ([10, 20], [0.5, 0.75]),
    }  # fmt: skip
    assert (curves.num_steps, curves.num_epochs, curves.best_step) == (20, 2.0, 20)
    for place in ("checkpoints", "checkpoints/checkpoint-20", "checkpoints/checkpoint-20/trainer_state.json"):
        assert learning_curves(tmp_path / place).validation == curves.validation
    loss, score, *others = plot_learning_curves(curves).axes
    np.testing.assert_array_equal([line.get_ydata() for line in loss.lines[:2]], [[2.0, np.nan], [1.5, 1.0]])
    assert [line.get_linestyle() for line in loss.lines[:2]] == ["-", "--"]
    assert [text.get_text() for text in score.get_legend().get_texts()] == ["accuracy, validation"]
    assert [axes.get_ylabel() for axes in others] == ["learning rate", "norm of the gradient"]
    assert others[-1].get_xlabel().endswith("the best checkpoint, step 20")
    title = "Training of 20 steps, 2 epochs\n1 values are not finite, and are gaps in the lines"
    assert loss.get_title(loc="left") == title


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no saved state"):
        learning_curves(tmp_path)
    write_state(tmp_path / "checkpoint-1", 1)
    with pytest.raises(ValueError, match="logged nothing yet"):
        plot_learning_curves(learning_curves(tmp_path))
