"""`hf-ast stats`."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_ast import HfASTFeatureExtractor
from hf_ast.cli import main


def test_mean_and_deviation(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extractor = HfASTFeatureExtractor.from_pretrained(model_folder)
    raw = HfASTFeatureExtractor(num_mel_bins=32, max_length=50, do_normalize=False)
    rng, values = np.random.default_rng(0), []
    for label, scale in (("soft", 0.01), ("loud", 0.3)):
        (tmp_path / label).mkdir()
        for number in range(3):
            clip = (scale * rng.standard_normal(3000 + 1000 * number)).clip(-1, 1).astype(np.float32)
            soundfile.write(tmp_path / label / f"{number}.wav", clip, 16000, subtype="FLOAT")
            values.append(raw(clip, 16000, return_tensors="np", padding=False)["input_values"].ravel())
    assert main(["stats", str(tmp_path), "--model", str(model_folder), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    expected = np.concatenate(values).astype(np.float64)
    assert result["mean"] == pytest.approx(expected.mean(), abs=1e-6)
    assert result["std"] == pytest.approx(expected.std(ddof=1), abs=1e-6)
    assert result["checkpoint"] == {"mean": extractor.mean, "std": extractor.std}
    assert result["classes"] == {"loud": {"train": 3}, "soft": {"train": 3}}
    assert result["num_recordings"] == 6
    assert main(["stats", str(tmp_path), "--model", str(model_folder), "--num-recordings", "2"]) == 1
    mean, std, _ = capsys.readouterr().out.splitlines()
    assert mean.startswith("mean ")
    assert std.startswith("std  ")
