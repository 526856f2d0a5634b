"""`hf-ast pretrain`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from transformers import TrainerCallback

from hf_ast import SSASTForPreTraining
from hf_ast.cli import main
from hf_ast.training import pretraining
from tests.support.interpreter import ROOT
from tests.support.recordings import sine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", sine(16000, 0.5, 220.0 * (number + 1)), 16000)
    return folder


def test_stdout_has_the_result_only(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["pretrain", str(folder), "--out", str(out), "--duration", "0.32", "--steps", "1", "--eval-every", "1"]
    assert main([*arguments, "--size", "tiny", "--kind", "frame", "--num-workers", "0", "--json"]) == 0
    output = capsys.readouterr()
    model = SSASTForPreTraining.from_pretrained(out)
    assert (model.config.patch_size, model.config.max_length, model.config.hidden_size) == ([128, 2], 32, 192)
    expected = {"folder": str(out), "num_parameters": model.num_parameters(), "skipped": {}, "warned": {}}
    assert json.loads(output.out) == expected
    assert "loss" in output.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--duration -1", 2, "'--duration': -1.0 is not a positive number"),
        ("--duration nan", 2, "'--duration': nan is not a positive number"),
        ("--duration 0.1", 1, "duration_s=0.1 must be at least 0.32 s"),
        ("--duration 10000000", 1, "max_length=1000000000 and num_mel_bins=128 make"),
        ("--learning-rate 0", 2, "'--learning-rate': 0.0 is not a positive number"),
        ("--steps 0", 2, "'--steps': Input should be greater than or equal to 1"),
        ("--batch-size 0", 2, "'--batch-size': Input should be greater than or equal to 1"),
        ("--eval-every 0", 2, "'--eval-every': Input should be greater than or equal to 1"),
        ("--num-workers -1", 2, "'--num-workers': Input should be greater than or equal to 0"),
        ("--seed -1", 2, "'--seed': Input should be greater than or equal to 0"),
        ("--size huge", 2, "'huge' is not one of 'tiny', 'small', 'base'"),
        ("--kind square", 2, "'square' is not one of 'patch', 'frame'"),
        ("--model ./nothing", 1, "model='./nothing' is neither a folder nor a released checkpoint"),
        ("--resume --out nowhere", 1, "holds no saved state; start without it"),
    ],
)
def test_a_bad_value_is_one_sentence(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", str(folder), *arguments.split()]) == status
    output = capsys.readouterr()
    assert output.out == ""
    text = " ".join(output.err.replace("│", "").split())
    assert message in text
    assert "validat" not in text.lower()
    assert list(tmp_path.iterdir()) == []


def test_several_sources_with_weights(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "files.jsonl").write_text(f'"{folder / "0.wav"}"\n"{tmp_path / "nothing.wav"}"\n')
    out = tmp_path / "out"
    arguments = ["pretrain", str(folder), str(tmp_path / "files.jsonl"), "--weight", "1", "--weight", "3", "--json"]
    arguments += ["--gradient-accumulation", "2", "--bf16", "--report-to", "none", "--out", str(out)]
    arguments += ["--duration", "0.32", "--steps", "1", "--batch-size", "1", "--num-workers", "0", "--kind", "frame"]
    assert main(arguments) == 1  # of the recording that is skipped
    output = capsys.readouterr()
    skipped = json.loads(output.out)["skipped"]
    assert skipped.keys() == {f"{tmp_path / 'files.jsonl'}: {tmp_path / 'nothing.wav'}"}
    assert "3 recordings (0.000417 h) to train on, 0 to evaluate on; 25.0% of the crops" in output.err
    assert "skipped: 1 files" in output.err
    record = json.loads((out / "training.json").read_text())
    assert record["weights"] == [0.25, 0.75]
    assert [source["num_training"] for source in record["recordings"]] == [3, 1]
    assert main(["pretrain", str(folder), str(folder), "--weight", "2"]) == 1
    assert "weights=[2.0] must hold one for each of the 2 sources" in capsys.readouterr().err
    assert main(["pretrain", str(folder), "--weight", "0"]) == 2
    assert "'--weight': 0.0 is not a positive number" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_two_processes(folder: Path, tmp_path: Path) -> None:
    """The command, with Adam: the losses of each step are those of one process."""
    arguments = ["pretrain", str(folder), "--duration", "0.32", "--steps", "4", "--eval-every", "2", "--kind", "frame"]
    assert main([*arguments, "--batch-size", "2", "--num-workers", "0", "--out", str(tmp_path / "one")]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*launch, "hf_ast.cli", *arguments, "--batch-size", "1", "--num-workers", "0", "--out", str(tmp_path / "two")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'two'}\n"  # once
    losses = []
    for name in ("one", "two"):
        state = json.loads((tmp_path / name / "checkpoints" / "checkpoint-4" / "trainer_state.json").read_text())
        losses.append([entry["loss"] for entry in state["log_history"] if "loss" in entry])
    assert len(losses[0]) == 4
    # Adam divides the rounding errors of gradients near zero by their own size
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_folders_without_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", str(tmp_path / "nowhere")]) == 1
    assert "is not a folder" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("no audio")
    assert main(["pretrain", str(tmp_path)]) == 1
    assert "holds no recording" in capsys.readouterr().err


def test_an_interrupted_training_says_how_to_continue(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pretraining, "DamagedRecordings", lambda *crops: Interrupt())
    arguments = ["pretrain", str(folder), "--out", str(tmp_path), "--duration", "0.32", "--steps", "2"]
    assert main([*arguments, "--kind", "frame", "--eval-every", "1", "--num-workers", "0"]) == 130
    output = capsys.readouterr()
    assert output.out == ""
    assert "interrupted; --resume continues from the last saved state\n" in output.err
    monkeypatch.undo()
    assert main([*arguments, "--kind", "frame", "--eval-every", "1", "--num-workers", "0", "--resume"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"
