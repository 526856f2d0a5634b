"""No training ends wrong in silence: it diverges with an error, ends with a state, and continues only as it began."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerState

from hf_ast import HfASTFeatureExtractor, load_classifier, scene_embeddings
from hf_ast.data.labelled import LabelledData, read_data
from hf_ast.inference.tagging import score_inputs
from hf_ast.opening import expect_finite
from hf_ast.training.finetune import finetune
from hf_ast.training.guards import are_finite, errors_of_workers
from hf_ast.training.output import only_run, publish, saved_states
from hf_ast.training.presets import Preset
from hf_ast.training.pretraining import pretrain
from hf_ast.training.progress import is_still_falling
from hf_ast.training.recipe_trainer import rating
from hf_ast.training.schedules import StopWithoutProgress
from tests.support.labelled import write_folder
from tests.support.tiny import SIZE, spectrograms, tiny_model

TWO_EPOCHS = Preset(learning_rate=1e-3, num_epochs=2, batch_size=15)  # of two steps each


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    return read_data(write_folder(tmp_path_factory.mktemp("data") / "recordings"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    tiny_model().save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    return folder


class At(TrainerCallback):
    """Does something at an event of a step."""

    def __init__(self, event: str, step: int, action: Callable[[torch.nn.Module], object]):
        def act(args: Any, state: TrainerState, control: Any, model: torch.nn.Module, **kwargs: Any) -> None:
            if state.global_step == step:
                action(model)

        setattr(self, event, act)


def spoil_weight(model: torch.nn.Module) -> None:
    next(model.parameters()).data[0] = float("nan")


def spoil_gradient(model: torch.nn.Module) -> None:
    next(p for p in model.parameters() if p.grad is not None).grad.view(-1)[0] = float("inf")


def end(_: torch.nn.Module) -> None:
    signal.raise_signal(signal.SIGTERM)


FAULTS = {
    "loss": (At("on_step_begin", 2, spoil_weight), "diverged in step 3: the loss is nan"),
    "gradient": (At("on_pre_optimizer_step", 2, spoil_gradient), "diverged in step 3: a gradient is NaN or infinite"),
    "weight": (At("on_step_end", 3, spoil_weight), "diverged in step 3: a weight is NaN or infinite"),
}


def steps(output: Path) -> list[str]:
    return sorted(folder.name for folder in saved_states(output))


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_training_that_diverges_is_an_error_and_keeps_the_last_good_state(
    fault: At, message: str, data: LabelledData, start: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"model": start, "preset": TWO_EPOCHS, "num_workers": 0}
    with pytest.raises(ValueError, match=f"{message}.*smaller learning_rate"):
        finetune(data, tmp_path, callbacks=[fault], **settings)
    assert steps(tmp_path) == ["checkpoint-1", "checkpoint-2"]
    assert are_finite(load_file(tmp_path / "checkpoints" / "checkpoint-2" / "model.safetensors").values())
    assert not (tmp_path / "config.json").exists()


def test_pretraining_that_diverges_is_an_error(data: LabelledData, tmp_path: Path) -> None:
    settings = {"duration_s": 0.32, "batch_size": 8, "num_steps": 4, "num_workers": 0}
    with pytest.raises(ValueError, match="diverged in step 2: the loss is nan"):
        pretrain(
            data.source.location,
            tmp_path,
            config={"num_mel_bins": 32, **SIZE},
            callbacks=[At("on_step_begin", 1, spoil_weight)],
            **settings,
        )
    assert steps(tmp_path) == ["checkpoint-1"]


def test_sigterm_saves_a_state_from_which_training_continues_exactly(
    data: LabelledData, start: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"model": start, "preset": TWO_EPOCHS, "num_workers": 0}
    before = signal.getsignal(signal.SIGTERM)
    finetune(data, tmp_path / "whole", **settings)
    with pytest.raises(SystemExit) as ended:
        finetune(data, tmp_path / "ended", callbacks=[At("on_step_begin", 2, end)], **settings)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert steps(tmp_path / "ended")[-1] == "checkpoint-3"
    finetune(data, tmp_path / "ended", resume=True, **settings)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "ended"))
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=0, rtol=0)

    record = json.loads((tmp_path / "ended" / "training.json").read_text(encoding="utf-8"))
    assert (record["model"], record["settings"]["max_grad_norm"]) == (os.path.realpath(start), 0.0)
    changes = {
        "seed was 0, and now is 1": {"seed": 1},
        "learning_rate was 0.001, and now is 0.01": {"learning_rate": 0.01},
        "batch_size was 15, and now is 30": {"batch_size": 30},
        "dtype was 'float32', and now is 'bfloat16'": {"dtype": "bfloat16"},
    }
    for message, change in changes.items():
        with pytest.raises(ValueError, match=message):
            finetune(data, tmp_path / "ended", resume=True, **settings | change)
    moved = [replace(clip, labels=(0,)) if clip.labels == (1,) else clip for clip in data.clips]
    with pytest.raises(ValueError, match="sha256 differs from what it was"):
        finetune(replace(data, clips=moved), tmp_path / "ended", resume=True, **settings)


def test_a_folder_takes_one_run_and_never_the_model_that_it_starts_from(
    data: LabelledData, start: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"model": start, "preset": TWO_EPOCHS}
    with only_run(tmp_path / "out"), pytest.raises(ValueError, match="another run is training into this folder"):
        finetune(data, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()  # nothing came into it
    with pytest.raises(ValueError, match="would overwrite model="):
        finetune(data, start, **settings)
    (tmp_path / "link").symlink_to(start)
    with pytest.raises(ValueError, match="would overwrite model="):
        finetune(data, tmp_path / "link", **settings)
    tiny_model().save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="holds a model already"):
        finetune(data, tmp_path / "other", **settings)


def test_a_state_is_complete_when_its_last_file_is_there(tmp_path: Path) -> None:
    for number, files in ((1, ["trainer_state.json", "complete"]), (2, ["trainer_state.json"])):
        folder = tmp_path / "checkpoints" / f"checkpoint-{number}"
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).write_text("{}")
    assert steps(tmp_path) == ["checkpoint-1"]


def test_the_config_of_a_result_is_moved_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "staged").mkdir()
    for name in ("config.json", "model.safetensors", "a.py"):
        (tmp_path / "staged" / name).touch()
    moved: list[str] = []
    replace_file = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: moved.append(self.name) or replace_file(self, to))
    publish(tmp_path / "staged", tmp_path)
    assert sorted(moved[:2]) == ["a.py", "model.safetensors"]
    assert moved[2] == "config.json"


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("qkv.weight"))
    for value in (float("nan"), float("inf")):
        weights[name][0, 0] = value
        save_file(weights, file, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=rf"its weight '\S*{name}' holds values that are NaN or infinite"):
            load_classifier(tmp_path)
    expect_finite("x", [("integers", torch.ones(2, dtype=torch.long)), ("empty", torch.zeros(0))])


def test_scores_that_are_not_finite_are_an_error() -> None:
    model = tiny_model()
    spoil_weight(model.classifier.linear)
    with pytest.raises(ValueError, match="computed values that are NaN or infinite"):
        score_inputs(model, {"input_values": spectrograms(1, 50)})
    spoil_weight(model.backbone)
    with pytest.raises(ValueError, match="computed values that are NaN or infinite"):
        scene_embeddings(model, HfASTFeatureExtractor(num_mel_bins=32, max_length=50), torch.zeros(1, 8000))


@pytest.mark.parametrize(
    ("tensor", "expected"), [(1.0, True), (3e38, True), (float("nan"), False), (-float("inf"), False)]
)
def test_finite_tensors(tensor: float, expected: bool) -> None:
    assert are_finite([torch.ones(3), torch.tensor([0.0, tensor])]) is expected
    assert are_finite([])


def test_an_error_of_a_worker_is_one_sentence() -> None:
    text = "Caught ValueError in DataLoader worker process 0.\nOriginal:\n  File x\nValueError: rec.wav: cut off"
    with pytest.raises(ValueError, match=r"^rec\.wav: cut off$"), errors_of_workers():
        raise ValueError(text)
    with pytest.raises(OSError, match="perhaps because memory ran out"), errors_of_workers():
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed.")
    with pytest.raises(RuntimeError, match="of the device"), errors_of_workers():
        raise RuntimeError("of the device")


def test_a_state_is_rated_by_metric_then_by_loss_with_an_advance_for_late_ones() -> None:
    at: dict[str, Any] = {"num_recordings": 38, "progress": 0.5}
    assert rating(0.5, 1.0, **at) > rating(0.5, 2.0, **at)
    assert rating(0.51, 1e9, **at) > rating(0.5, 0.0, **at)
    # (0.5 * 38 + 1) / 40: two standard errors are 2 * sqrt(0.25 / 38)
    late, early = (rating(0.5, 1.0, num_recordings=38, progress=progress) for progress in (1.0, 0.0))
    assert late - early == pytest.approx(2 * (0.25 / 38) ** 0.5)


def test_a_training_stops_when_nothing_has_improved_for_a_share_of_its_steps() -> None:
    class Control:
        should_training_stop = False

    def stops(accuracies: list[float], losses: list[float]) -> bool:
        """Evaluated every tenth of the training."""
        control = Control()
        pairs = zip(accuracies, losses, strict=True)
        log = [{"step": 10 * n, "eval_accuracy": a, "eval_loss": b} for n, (a, b) in enumerate(pairs, start=1)]
        state = TrainerState(global_step=10 * len(log), max_steps=100, log_history=[{"step": 1, "loss": 1.0}, *log])
        StopWithoutProgress(0.4, "accuracy").on_save(None, state, control)  # type: ignore[arg-type]
        return control.should_training_stop

    assert stops([0.5, 0.9, 0.8, 0.9, 0.9, 0.9], [2, 1, 3, 1, 1, 1])
    assert not stops([0.5, 0.9, 0.8, 0.9, 0.9], [2, 1, 3, 1, 1])
    assert not stops([0.5, 0.9, 0.8, 0.9, 0.9, 0.9], [2, 1, 3, 1, 0.9, 1])
    assert not stops([0.5, 0.6, 0.8, 0.9, 0.9, 0.9], [2, 1, 3, 1, 1, 1])


def test_a_loss_that_is_still_falling() -> None:
    assert is_still_falling([4.0, 3.0, 2.0, 1.0])
    assert not is_still_falling([4.0, 1.0, 0.9, 0.89])
    assert not is_still_falling([4.0, 1.0, 0.5, 2.0])
    assert not is_still_falling([2.0, 1.0])
