"""`hf-ast classify`."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from hf_ast import HfASTFeatureExtractor
from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.cli import main
from hf_ast.inference import tagging
from tests.support.interpreter import ROOT
from tests.support.recordings import sine, write_kinds
from tests.support.tiny import tiny_ssast


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three recordings of 0.5, 1.3 and 0.5 s, in a folder and a subfolder, and files that are none."""
    folder = tmp_path / "recordings"
    (folder / "more" / ".hidden").mkdir(parents=True)
    soundfile.write(folder / "a.wav", sine(16000, 0.5), 16000)
    soundfile.write(folder / "b.FLAC", np.stack([sine(44100, 1.3)] * 2, axis=1), 44100, format="FLAC")
    soundfile.write(folder / "more" / "c.ogg", sine(16000, 0.5), 16000)
    soundfile.write(folder / "more" / ".hidden" / "d.wav", sine(16000, 0.5), 16000)
    (folder / "notes.txt").write_text("no audio")
    return folder


def test_embedded_model_labels_its_recordings(capsys: pytest.CaptureFixture[str]) -> None:
    recordings = sorted(RECORDINGS.glob("*.flac"))
    assert len(recordings) >= 12
    assert main(["classify", *map(str, recordings), "--json", "--top-k", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [result["file"] for result in found] == list(map(str, recordings))
    for result in found:
        (label,) = result["labels"]
        assert label["label"] == Path(result["file"]).stem
        assert 0.5 < label["score"] <= 1
        assert result["duration_s"] == 1
    assert (EMBEDDED_MODEL / "model.safetensors").stat().st_size < 3_000_000


def test_one_line_per_recording_or_per_window(
    model_folder: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["classify", str(recordings / "a.wav"), str(recordings / "b.FLAC"), "--model", str(model_folder)]
    assert main([*arguments, "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == arguments[1:3]
    assert all(line.count("LABEL_") == 2 and line.count("%") == 2 for line in lines)
    assert main([*arguments, "--windows"]) == 0
    lines = capsys.readouterr().out.splitlines()
    times = [" ".join(line.split()[1:5]) for line in lines]
    assert times == ["0.0 - 0.5 s", "0.0 - 0.5 s", "0.5 - 1.0 s", "0.8 - 1.3 s"]
    assert main([*arguments, "--windows", "--json"]) == 0
    _, long = json.loads(capsys.readouterr().out)
    assert [round(window["start_s"], 2) for window in long["windows"]] == [0, 0.52, 0.79]
    of_windows = [{tag["label"]: tag["score"] for tag in window["labels"]} for window in long["windows"]]
    best = long["labels"][0]
    if all(best["label"] in window for window in of_windows):
        assert best["score"] == pytest.approx(np.mean([window[best["label"]] for window in of_windows]), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["."], ["a.wav", "b.FLAC", "more/c.ogg"]),
        (["*.wav"], ["a.wav"]),
        (["**/*.[wo]*"], ["a.wav", "more/c.ogg"]),
        (["more", "m*", "b.FLAC"], ["more/c.ogg", "b.FLAC"]),
        (["more/.hidden/d.wav"], ["more/.hidden/d.wav"]),
    ],
)
def test_folders_and_patterns(
    model_folder: Path,
    recordings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: list[str],
) -> None:
    monkeypatch.chdir(recordings)
    assert main(["classify", *arguments, "--model", str(model_folder)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == expected


def test_what_is_no_recording_does_not_stop_the_others(
    model_folder: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recordings / "empty").mkdir()
    wrong = ["missing.wav", "*.nothing", str(recordings / "empty"), str(recordings / "notes.txt")]
    good = str(recordings / "a.wav")
    assert main(["classify", *wrong, good, "--model", str(model_folder), "--json"]) == 1
    output = capsys.readouterr()
    results = {result["file"]: result for result in json.loads(output.out)}
    assert list(results) == [*wrong[:3], wrong[3], good]
    assert "labels" in results.pop(good)
    assert all(f"error: {name}: {result['error']}" in output.err for name, result in results.items())
    messages = ["there is no such file", "there is no such file", "there is no audio file in this folder"]
    for line, argument, message in zip(output.err.splitlines(), wrong, [*messages, "cannot be read"], strict=True):
        assert line.startswith(f"error: {argument}: ")
        assert message in line


def test_nothing_to_label_is_an_error_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(tmp_path), "--model", "no/model"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: there is no audio file in this folder.\n"


def tag_then(number: int, then: Callable[[], Any]) -> Callable[..., Any]:
    """`tag`, which does something else instead at one of its calls."""
    calls, tag = [], tagging.tag

    def replaced(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return then() if len(calls) == number else tag(*args, **kwargs)

    return replaced


@pytest.mark.parametrize("as_json", [False, True])
def test_results_come_at_once_and_are_whole_when_it_is_interrupted(
    as_json: bool,
    model_folder: Path,
    recordings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = []

    def interrupt() -> None:
        printed.append(capsys.readouterr().out)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(tagging, "tag", tag_then(3, interrupt))
    assert main(["classify", str(recordings), "--model", str(model_folder), *["--json"] * as_json]) == 130
    output = capsys.readouterr()
    assert output.err == "interrupted after 2 of 3\n"
    if as_json:
        results = json.loads(printed[0] + output.out)
        assert [Path(result["file"]).name for result in results] == ["a.wav", "b.FLAC"]
    else:
        assert [line.split()[0] for line in printed[0].splitlines()] == [
            str(recordings / name) for name in ("a.wav", "b.FLAC")
        ]


def test_an_unexpected_error_costs_one_recording_and_is_raised_with_traceback(
    model_folder: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("too much for the decoder")

    arguments = ["classify", str(recordings), "--model", str(model_folder), "--json"]
    monkeypatch.setattr(tagging, "tag", tag_then(2, fail))
    assert main(arguments) == 1
    output = capsys.readouterr()
    results = json.loads(output.out)
    assert [result.get("error") for result in results] == [None, "RuntimeError: too much for the decoder", None]
    assert f"error: {recordings / 'b.FLAC'}: RuntimeError: too much for the decoder" in output.err
    monkeypatch.setattr(tagging, "tag", tag_then(2, fail))
    with pytest.raises(RuntimeError, match="too much for the decoder"):
        main(["--traceback", *arguments])
    assert len(json.loads(capsys.readouterr().out)) == 1  # what is done is kept


def test_memory_that_does_not_suffice_ends_the_run(
    model_folder: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(tagging, "tag", tag_then(2, fail))
    with pytest.raises(MemoryError):
        main(["classify", str(recordings), "--model", str(model_folder), "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_recordings_of_every_kind_in_a_folder(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of a phone, a browser and a camera (headphones #141), with a text, an archive and damage."""
    folder = tmp_path / "kinds"
    kinds = write_kinds(folder)
    (folder / "notes.txt").write_text("no recording")
    (folder / "old.zip").write_bytes(b"PK")
    (folder / "page.mp3").write_text("<html>not found</html>")
    (folder / "gone.wav").symlink_to("nowhere")
    assert main(["classify", str(folder), "--model", str(model_folder), "--json"]) == 1
    output = capsys.readouterr()
    results = {Path(result["file"]).name: result for result in json.loads(output.out)}
    assert sorted(results) == sorted([*kinds, "page.mp3", "gone.wav"])
    assert sorted(name for name, result in results.items() if "error" in result) == ["gone.wav", "page.mp3"]
    for name in kinds:
        # Encoders of AAC, MP3, Opus and WMA add some silence
        assert results[name]["duration_s"] == pytest.approx(0.5, abs=0.15), name
    assert "left out 1 archives, which must be unpacked: old.zip" in output.err


def test_files_whose_names_look_like_patterns(
    model_folder: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(recordings)
    (recordings / "[live]").mkdir()
    for name in ("[live].wav", "a?.wav", "line\nbreak.wav", "[live]/x.wav"):
        shutil.copy(recordings / "a.wav", recordings / name)
    arguments = ["[live].wav", "a?.wav", "line\nbreak.wav", "[live]/*.wav"]
    assert main(["classify", *arguments, "--model", str(model_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["[live].wav", "a?.wav", "line\\x0abreak.wav", "[live]/x.wav"]


def test_names_that_are_not_utf8(model_folder: Path, recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(os.fsencode(recordings) + b"/caf\xe9.wav")
    (recordings / "a.wav").rename(name)
    assert main(["classify", str(recordings), "--model", str(model_folder), "--json"]) == 0
    assert name in [result["file"] for result in json.loads(capsys.readouterr().out)]
    out = recordings.parent / "out.parquet"
    assert main(["embed", name, "--model", str(model_folder), "--out", str(out)]) == 0
    assert pq.read_table(out).column("path").to_pylist() == [f"{recordings}/caf\\udce9.wav"]


def test_a_reader_that_has_gone_ends_it_in_silence(
    model_folder: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with `| head`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["classify", str(recordings), "--model", str(model_folder)]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Lines arrive through a pipe while it works, and the interpreter ends without a word of its own."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(500):
        shutil.copy(RECORDINGS / "yes.flac", folder / f"{number:03}.flac")
    command = [sys.executable, "-m", "hf_ast.cli", "classify", str(folder), "--json"]
    with (tmp_path / "stderr").open("w+") as errors:
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            first = [process.stdout.readline() for _ in range(2)]
            process.send_signal(signal.SIGINT)
            output = "".join([*first, process.stdout.read()])
        errors.seek(0)
        (line,) = errors.read().splitlines()
    assert process.returncode == 130
    num_results = len(json.loads(output))
    assert 0 < num_results < 500
    # The last one may have been printed when the signal came
    assert line in [f"interrupted after {number} of 500" for number in (num_results - 1, num_results)]


def test_a_wrong_model_is_one_quick_sentence(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens at "discard"
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits to try again"))
    assert main(["classify", str(recordings), "--model", "audioset_10_10_0.4539"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: model='audioset_10_10_0.4539' is neither a folder nor a released checkpoint (close: "
    )
    assert "audioset_10_10_0.4593" in line


def test_a_model_without_a_classification_head_is_refused(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_ssast().save_pretrained(tmp_path / "pretrained")
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path / "pretrained")
    capsys.readouterr()
    assert main(["classify", str(recordings), "--model", str(tmp_path / "pretrained")]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "is not a trained classifier" in output.err.splitlines()[-1]


@pytest.mark.parametrize("missing", [("soundfile", "av"), ("soxr",)], ids=["decoders", "soxr"])
def test_without_the_extra_for_audio_it_is_one_sentence(
    missing: tuple[str, ...],
    model_folder: Path,
    recordings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    arguments = ["classify", str(recordings / "b.FLAC"), str(recordings), "--model", str(model_folder), "--json"]
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert json.loads(output.out) == []
    assert output.err == f'error: Reading audio needs {missing[0]}: pip install "hf-ast[audio]"\n'


def test_names_that_the_terminal_cannot_show_are_escaped(
    model_folder: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recordings / "a.wav").rename(recordings / "caf\xe9.wav")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["classify", str(recordings / "caf\xe9.wav"), "--model", str(model_folder)]) == 0
    assert b"caf\\xe9.wav" in stdout.buffer.getvalue()
