"""transformers' pipelines on our models."""

from pathlib import Path

import pytest
import soundfile
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, pipeline

from tests.support.recordings import sine
from tests.support.tiny import GEOMETRY, SIZE


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
