"""From files to labels: reading, windows, the pipeline, the command line, the wheel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import GEOMETRY, SIZE, randomize, tiny_model
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, pipeline

from hf_ast import HfASTFeatureExtractor, audio
from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.cli import main
from hf_ast.inference.tagging import load_classifier, tag_recording, window_starts

ROOT = Path(__file__).parents[1]


def sine(rate: int, duration_s: float = 1.0, frequency_hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(int(duration_s * rate)) / rate)).astype(np.float32)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    return folder


# --- Reading


@pytest.mark.parametrize(("suffix", "tolerance"), [("wav", 2**-15), ("flac", 2**-15), ("ogg", 0.02)])
def test_read_gives_the_mean_of_the_channels(tmp_path: Path, suffix: str, tolerance: float) -> None:
    left, right = sine(16000), sine(16000, frequency_hz=660.0)
    file = tmp_path / f"stereo.{suffix}"
    soundfile.write(file, np.stack((left, right), axis=1), 16000)
    for source in (file, str(file), file.read_bytes()):
        waveform, rate = audio.read(source)
        assert (waveform.dtype, waveform.shape, rate) == (np.float32, (16000,), 16000)
        assert np.abs(waveform - (left + right) / 2).max() <= tolerance


def test_read_resamples(tmp_path: Path) -> None:
    file = tmp_path / "tone.wav"
    soundfile.write(file, sine(44100), 44100, subtype="FLOAT")
    waveform, rate = audio.read(file, 16000)
    assert (len(waveform), rate) == (16000, 16000)
    # away from the edges, where the filter has no samples on one side
    assert np.abs(waveform - sine(16000))[200:-200].max() < 1e-4


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.wav"):
        audio.read(tmp_path / "nothing.wav")
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(ValueError, match=r"text.wav' cannot be read.*FLAC"):
        audio.read(tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16000)
    with pytest.raises(ValueError, match="no samples"):
        audio.read(tmp_path / "empty.wav")


# --- Windows


@pytest.mark.parametrize(
    ("samples", "starts"), [(5, [0]), (10, [0]), (11, [0, 1]), (20, [0, 10]), (25, [0, 10, 15]), (30, [0, 10, 20])]
)
def test_windows_cover_everything(samples: int, starts: list[int]) -> None:
    assert window_starts(samples, 10) == starts


def test_long_recordings_are_labelled_window_by_window(model_folder: Path) -> None:
    model, extractor = load_classifier(model_folder)
    waveform = 0.1 * np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    segments = tag_recording(model, extractor, waveform, top_k=9, batch_size=2)
    window = extractor.max_samples
    assert [round(s.start_s * 16000) for s in segments] == [0, window, 20000 - window]
    last = extractor(waveform[-window:], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = model(**last).logits[0].softmax(-1)
    scores = {tag.label: tag.score for tag in segments[-1].tags}
    for index, label in model.config.id2label.items():
        assert scores[label] == pytest.approx(expected[index].item(), abs=1e-5)
    with pytest.raises(ValueError, match="top_k=0"):
        tag_recording(model, extractor, waveform, top_k=0)


def test_checkpoints_of_transformers_own_ast_open_as_ours(tmp_path: Path) -> None:
    config = ASTConfig(**SIZE, **GEOMETRY | {"patch_size": 6}, num_labels=5)
    randomize(ASTForAudioClassification(config)).save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    model, extractor = load_classifier(tmp_path)
    assert (type(model).__name__, type(extractor).__name__) == ("HfASTForAudioClassification", "HfASTFeatureExtractor")


# --- Pipeline


def test_pipeline_reads_files_and_resamples_without_ffmpeg(model_folder: Path, tmp_path: Path) -> None:
    classifier = pipeline("audio-classification", model=str(model_folder), top_k=None)
    clip = sine(16000, 0.5)
    expected = classifier(clip)
    assert sum(item["score"] for item in expected) == pytest.approx(1.0, abs=1e-5)
    for name, rate in (("clip.wav", 16000), ("clip.flac", 16000), ("other.wav", 48000)):
        soundfile.write(tmp_path / name, sine(rate, 0.5), rate)
        found = {item["label"]: item["score"] for item in classifier(str(tmp_path / name))}
        for item in expected:
            assert found[item["label"]] == pytest.approx(item["score"], abs=0.02)
    given = {"array": sine(48000, 0.5), "sampling_rate": 48000}
    resampled = {item["label"]: item["score"] for item in classifier(given)}
    assert resampled[expected[0]["label"]] == pytest.approx(expected[0]["score"], abs=0.02)
    assert classifier((tmp_path / "clip.wav").read_bytes()) == classifier(str(tmp_path / "clip.wav"))


def test_pipelines_of_other_models_are_left_alone(tmp_path: Path) -> None:
    config = ASTConfig(**SIZE, **GEOMETRY | {"patch_size": 6}, num_labels=5)
    ASTForAudioClassification(config).save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    classifier = pipeline("audio-classification", model=str(tmp_path))
    with pytest.raises(ImportError, match="torchaudio"):
        classifier({"array": sine(48000, 0.5), "sampling_rate": 48000})


# --- Command line


def test_embedded_model_labels_its_recordings(capsys: pytest.CaptureFixture) -> None:
    recordings = sorted(RECORDINGS.glob("*.flac"))
    assert len(recordings) >= 12
    assert main(["classify", *map(str, recordings), "--json", "--top-k", "1"]) == 0
    for result in json.loads(capsys.readouterr().out):
        for segment in result["segments"]:
            assert segment["labels"][0]["label"] == Path(result["file"]).stem
    assert (EMBEDDED_MODEL / "model.safetensors").stat().st_size < 3_000_000


def test_table_names_files_times_and_labels(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    soundfile.write(tmp_path / "long.wav", np.stack([sine(44100, 1.3)] * 2, axis=1), 44100)
    assert main(["classify", str(tmp_path / "long.wav"), "--model", str(model_folder), "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "time", "labels"]
    assert [line.split()[1] for line in lines[1:]] == ["0.0-0.5", "0.5-1.0", "0.8-1.3"]
    assert all(line.count("LABEL_") == 2 and line.startswith("long.wav") for line in lines[1:])


def test_a_bad_file_does_not_stop_the_others(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    soundfile.write(tmp_path / "good.wav", sine(16000, 0.5), 16000)
    status = main(["classify", "missing.wav", str(tmp_path / "good.wav"), "--model", str(model_folder), "--json"])
    captured = capsys.readouterr()
    assert status == 1
    assert "missing.wav" in captured.err
    assert [result["file"] for result in json.loads(captured.out)] == [str(tmp_path / "good.wav")]
    assert main(["classify", "x.wav", "--model", str(tmp_path / "no-model")]) == 1
    assert "no-model" in capsys.readouterr().err


def test_the_wheel_alone_classifies_a_file(tmp_path: Path) -> None:
    """Everything that the package needs is in the wheel: installed into an empty folder, run from another."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    recording = RECORDINGS / "yes.flac"
    code = f"import hf_ast, hf_ast.cli; print(hf_ast.__file__); hf_ast.cli.main(['classify', {str(recording)!r}])"
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert Path(result.stdout.splitlines()[0]).is_relative_to(site)
    assert "yes" in result.stdout.splitlines()[-1].split()[3]
