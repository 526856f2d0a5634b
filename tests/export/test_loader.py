"""The loader of an export in a process that has neither torch nor transformers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hf_ast.assets import RECORDINGS
from hf_ast.export.folder import render
from tests.support.classifiers import logits_of, tiny_classifier
from tests.support.interpreter import run

CODE = """
import json, sys
sys.path.insert(0, {folder!r})
from classify import classify, read
print(json.dumps({{path: classify(read(path)) for path in {paths!r}}}))
"""
BLOCKED = ("torch", "transformers", "hf_ast", "soundfile", "onnx")


def as_wav(name: str, path: Path, **settings: object) -> str:
    waveform, rate = soundfile.read(RECORDINGS / f"{name}.flac", dtype="float32")
    soundfile.write(path, waveform, **{"samplerate": rate, "subtype": "PCM_16"} | settings)
    return str(path)


def test_scores_of_files(keywords_export: Path, tmp_path: Path) -> None:
    paths = {name: as_wav(name, tmp_path / f"{name}.wav") for name in ("yes", "stop", "go")}
    results = json.loads(run(CODE.format(folder=str(keywords_export), paths=list(paths.values())), without=BLOCKED))
    model, extractor = tiny_classifier("keywords")
    for name, path in paths.items():
        scores = results[path]
        assert next(iter(scores)) == name  # the highest first
        waveform, _ = soundfile.read(path, dtype="float32")
        expected = logits_of(model, extractor, torch.from_numpy(waveform)[None])[0].softmax(-1).tolist()
        assert [scores[model.config.id2label[i]] for i in range(12)] == pytest.approx(expected, abs=1e-5)


def test_independent_scores_of_a_multi_label_model(keywords_export: Path, tmp_path: Path) -> None:
    multi_label = tmp_path / "multi-label"
    shutil.copytree(keywords_export, multi_label)
    metadata = json.loads((keywords_export / "metadata.json").read_text()) | {"activation": "sigmoid"}
    (multi_label / "metadata.json").write_text(json.dumps(metadata))
    path = as_wav("yes", tmp_path / "yes.wav")
    (scores,) = json.loads(run(CODE.format(folder=str(multi_label), paths=[path]), without=BLOCKED)).values()
    waveform, _ = soundfile.read(path, dtype="float32")
    logits = logits_of(*tiny_classifier("keywords"), torch.from_numpy(waveform)[None])[0]
    assert [scores[label] for label in metadata["labels"]] == pytest.approx(logits.sigmoid().tolist(), abs=1e-5)


def test_short_clips_have_the_scores_of_the_feature_extractor(keywords_export: Path, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(400).astype(np.float32)
    clips = {str(tmp_path / f"{length}.npy"): noise[:length] for length in (1, 399, 400)}
    for path, clip in clips.items():
        np.save(path, clip)
    results = json.loads(run(CODE.format(folder=str(keywords_export), paths=list(clips)), without=BLOCKED))
    model, extractor = tiny_classifier("keywords")
    for path, clip in clips.items():
        expected = logits_of(model, extractor, torch.from_numpy(clip)[None])[0].softmax(-1).tolist()
        assert [results[path][model.config.id2label[i]] for i in range(12)] == pytest.approx(expected, abs=1e-5)


def test_what_it_refuses(keywords_export: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", np.zeros(25841, np.float32))
    np.save(tmp_path / "empty.npy", np.zeros(0, np.float32))
    files = {
        str(
            tmp_path / "long.npy"
        ): "25841 samples, but the model takes 400 to 25840 at once; cut it into windows of at",
        str(tmp_path / "empty.npy"): "0 samples, but the model takes 400 to 25840 at once.",
        as_wav("yes", tmp_path / "rate.wav", samplerate=8000): "must hold 16-bit samples at 16000 Hz",
        as_wav("yes", tmp_path / "bits.wav", subtype="PCM_24"): "must hold 16-bit samples at 16000 Hz",
    }
    code = f"""
import sys
sys.path.insert(0, {str(keywords_export)!r})
from classify import classify, read
for path in {list(files)!r}:
    try:
        classify(read(path))
    except ValueError as error:
        print(error)
"""
    errors = run(code, without=BLOCKED).splitlines()
    for error, message in zip(errors, files.values(), strict=True):
        assert message in error


def test_loaders_of_all_formats_are_short_python(keywords_export: Path) -> None:
    metadata = json.loads((keywords_export / "metadata.json").read_text())
    for to in ("onnx", "torch-export", "aoti"):
        for source in ("waveform", "features"):
            code = render("classify.py", metadata | {"format": to, "input": source})
            compile(code, "classify.py", "exec")
            assert "$" not in code
            lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from", '"""'))]
            assert len(lines) <= 27
