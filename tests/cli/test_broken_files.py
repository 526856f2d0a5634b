"""Folders of recordings in many formats with broken ones among them: every command names each of these."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from hf_ast.cli import main
from tests.support.labelled import write_wavs
from tests.support.recordings import KINDS, break_file, write_kinds

BROKEN = ("low/pcm.wav", "low/music.mp3", "high/phone.m4a", "high/lossless.flac", "high/vorbis.ogg")
NUM_GOOD = 2 * len(KINDS) - len(BROKEN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "recordings"
    write_kinds(folder / "low", 0.4, 300)
    write_kinds(folder / "high", 0.4, 2000)
    for number, name in enumerate(BROKEN):
        break_file(folder / name, number)
    return folder


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """The JSON and the messages of a command that could not do everything."""
    assert main([*arguments, "--json"]) == 1
    output = capsys.readouterr()
    return json.loads(output.out), output.err


def expect_named(reasons: Mapping[str, str], messages: str, folder: Path | None = None) -> None:
    names = [name if folder is None else str(folder / name) for name in BROKEN]
    assert sorted(reasons) == sorted(names)
    assert all(reasons.values())
    assert all(f"{name}: {reason}" in messages for name, reason in reasons.items())


@pytest.mark.parametrize("command", ["classify", "tag"])
def test_labels_and_events(command: str, folder: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, messages = run([command, str(folder), "--model", str(model_folder)], capsys)
    failed = {result["file"]: result["error"] for result in results if "error" in result}
    expect_named(failed, messages, folder)
    assert len(results) - len(failed) == NUM_GOOD


@pytest.mark.slow
def test_embeddings_and_a_picture(
    folder: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, out in (["embed"], "out.npz"), (["plot", "similarity"], "out.png"):
        arguments = [*command, str(folder), "--model", str(model_folder), "--out", str(tmp_path / out)]
        result, messages = run(arguments, capsys)
        expect_named({row["file"]: row["error"] for row in result["failed"]}, messages, folder)
        assert (tmp_path / out).exists()


def test_a_corpus(folder: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["extract", str(folder), "--out", str(out), "--model", str(model_folder), "--num-workers", "0"]
    result, messages = run(arguments, capsys)
    expect_named({row["file"]: row["error"] for row in result["failed"]}, messages)
    rows = pandas.read_parquet(out / "data")
    assert (len(rows), result["num_errors"]) == (2 * len(KINDS), len(BROKEN))
    assert sorted(rows[rows.error.notna()].path) == sorted(BROKEN)


@pytest.mark.slow
def test_training_data(folder: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(model_folder), str(tmp_path / "out")
    arguments = ["finetune", str(folder), "--model", model, "--out", out, "--epochs", "1", "--num-workers", "0"]
    result, messages = run([*arguments, "--batch-size", "16", "--duration", "0.4"], capsys)
    expect_named(result["skipped"], messages)
    result, messages = run(["evaluate", out, str(folder)], capsys)
    expect_named(result["skipped"], messages)
    assert result["num_recordings"] == NUM_GOOD
    result, messages = run(["stats", str(folder), "--model", model], capsys)
    expect_named(result["skipped"], messages)
    assert result["num_recordings"] == NUM_GOOD


@pytest.mark.slow
def test_pretraining(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pretrain", str(folder), "--out", str(tmp_path / "out"), "--steps", "1", "--batch-size", "2"]
    result, messages = run([*arguments, "--duration", "0.4", "--kind", "frame", "--num-workers", "0"], capsys)
    expect_named(result["skipped"], messages)


def test_damage_is_said_once_on_stderr_and_json_is_clean(
    model_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whole, cut to 0.2 s of 0.4 s, and noise called MP3, in each of two classes."""
    folder, out = tmp_path / "recordings", str(tmp_path / "out")
    names = [f"{label}/{name}.wav" for label in ("owl", "wren") for name in ("a", "b", "cut")]
    write_wavs(folder, *names, duration_s=0.4)
    for label in ("owl", "wren"):
        cut = folder / label / "cut.wav"
        cut.write_bytes(cut.read_bytes()[: (44 + cut.stat().st_size) // 2])
        (folder / label / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(20_000))
    model = ["--model", str(model_folder)]
    settings = ["--batch-size", "2", "--num-workers", "0", "--duration", "0.4"]
    for command in (
        ["classify", str(folder), *model],
        ["tag", str(folder), *model],
        ["embed", str(folder), *model, "--out", f"{out}.npz"],
        ["plot", "similarity", str(folder), *model, "--out", f"{out}.png"],
        ["stats", str(folder), *model],
        ["finetune", str(folder), *model, "--out", out, "--epochs", "1", *settings],
        ["evaluate", out, str(folder)],
        ["pretrain", str(folder), "--out", f"{out}-own", "--steps", "1", "--kind", "frame", *settings],
    ):
        assert main([*command, "--json"]) == 1, command
        output = capfd.readouterr()
        json.loads(output.out)
        for label in ("owl", "wren"):
            (said,) = [line for line in output.err.splitlines() if f"{label}/cut.wav" in line]
            assert "lacks 0.20 s: its header promises 0.40 s, and 0.20 s were found" in said
        assert "Note:" not in output.err
