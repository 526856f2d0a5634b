"""transformers' pipelines on our models."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_ast import HfASTFeatureExtractor, tag
from tests.support.file_server import Served, serving
from tests.support.recordings import sine
from tests.support.tiny import GEOMETRY, SIZE, passt_extractor, tiny_model, tiny_passt, tiny_ssast, waveforms

LONG = waveforms(1, 30000)[0].numpy()


def scores(result: list[dict[str, Any]]) -> torch.Tensor:
    by_label = {item["label"]: item["score"] for item in result}
    return torch.tensor([by_label[f"LABEL_{index}"] for index in range(5)])


@pytest.fixture(scope="module", params=["ast", "passt"])
def classifier(request: pytest.FixtureRequest) -> Any:
    if request.param == "ast":
        model, extractor = tiny_model(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    else:
        model, extractor = tiny_passt(), passt_extractor()
    return pipeline("audio-classification", model=model, feature_extractor=extractor)


@torch.no_grad()
def test_a_clip_of_one_window_is_scored_as_the_model_scores_it(classifier: Any) -> None:
    extractor = classifier.feature_extractor
    clip = LONG[: extractor.max_samples]
    logits = classifier.model(**extractor(clip, extractor.sampling_rate, return_tensors="pt")).logits
    torch.testing.assert_close(scores(classifier(clip, top_k=5)), logits[0].softmax(-1), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        scores(classifier(clip, top_k=5, function_to_apply="none")), logits[0], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("chunks", "windows"),
    [
        ({}, {}),
        ({"chunk_length_s": 0.3}, {"window_s": 0.3, "hop_s": 0.2}),
        ({"chunk_length_s": 0.4, "stride_length_s": 0.1}, {"window_s": 0.4, "hop_s": 0.2}),
        ({"chunk_length_s": 0.4, "stride_length_s": (0.0, 0.1)}, {"window_s": 0.4, "hop_s": 0.3}),
    ],
)
def test_all_of_a_long_recording_is_scored(classifier: Any, chunks: dict[str, Any], windows: dict[str, Any]) -> None:
    expected = tag(classifier.model, classifier.feature_extractor, LONG, **windows).scores
    for batch_size in (1, 3):
        found = scores(classifier(LONG, top_k=5, batch_size=batch_size, **chunks))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_chunks_that_make_no_sense(classifier: Any) -> None:
    for chunks, message in (
        ({"chunk_length_s": 100.0}, "window_s=100.0 is longer than what the model hears at once"),
        ({"chunk_length_s": 0.4, "stride_length_s": 0.2}, "stride_length_s=0.2 must not be negative"),
        ({"stride_length_s": 0.2}, "needs chunk_length_s"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier(LONG, **chunks)


def test_files_rows_and_other_rates_without_ffmpeg_and_torchaudio(classifier: Any, tmp_path: Path) -> None:
    stereo = np.stack((sine(48000, 1.2), sine(48000, 1.2, 660.0)))
    path = tmp_path / "stereo.wav"
    soundfile.write(path, stereo.T, 48000, subtype="FLOAT")
    expected = scores(classifier(str(path), top_k=5))
    undecoded = Dataset.from_dict({"audio": [str(path)] * 2}).cast_column("audio", Audio(decode=False))
    sources = [
        path.read_bytes(),
        {"array": stereo, "sampling_rate": 48000},
        {"array": stereo.T, "sampling_rate": 48000},
        {"raw": torch.from_numpy(stereo), "sampling_rate": 48000},
        undecoded[0]["audio"],
        undecoded[0],
    ]
    for source in sources:
        torch.testing.assert_close(scores(classifier(source, top_k=5)), expected, atol=1e-5, rtol=0)
    for results in (classifier(sources, top_k=5, batch_size=4), classifier(KeyDataset(undecoded, "audio"), top_k=5)):
        for result in results:
            torch.testing.assert_close(scores(result), expected, atol=1e-5, rtol=0)
    with serving() as server:
        server.served["stereo.wav"] = Served(path.read_bytes())
        torch.testing.assert_close(scores(classifier(server.url("stereo.wav"), top_k=5)), expected)
        with pytest.raises(OSError, match=r"nothing.wav.* cannot be downloaded: .*404"):
            classifier(server.url("nothing.wav"))


def test_lists_of_different_lengths_in_one_batch(classifier: Any) -> None:
    clips = [LONG[:9000], LONG, LONG[5000:12000], LONG[:20000]]
    alone = [scores(classifier(clip, top_k=5)) for clip in clips]
    together = [scores(result) for result in classifier(clips, top_k=5, batch_size=4)]
    torch.testing.assert_close(torch.stack(together), torch.stack(alone), atol=1e-5, rtol=0)


def test_tagging_pipeline(classifier: Any, tmp_path: Path) -> None:
    model, extractor = classifier.model, classifier.feature_extractor
    tagger = pipeline("audio-tagging", model=model, feature_extractor=extractor)
    settings = {"threshold": 0.3, "release": 0.2, "median_s": 0.6, "shortest_s": 0.3, "longest_gap_s": 0.1}
    result = tagger(LONG, chunk_length_s=0.4, top_k=None, pooling="max", batch_size=2, **settings)
    expected = tag(model, extractor, LONG, window_s=0.4, hop_s=0.4 - 0.4 / 3, pooling="max", **settings)
    torch.testing.assert_close(scores(result["scores"]), expected.scores, atol=1e-5, rtol=0)
    assert [event["label"] for event in result["events"]] == [event.label for event in expected.events]
    assert len(expected.events) > 0
    for found, event in zip(result["events"], expected.events, strict=True):
        assert found == pytest.approx(event._asdict(), abs=1e-5)
    assert result["duration_s"] == pytest.approx(len(LONG) / extractor.sampling_rate)
    assert len(tagger([LONG, LONG[:5000]], top_k=2)[1]["scores"]) == 2
    with pytest.raises(ValueError, match="no argument treshold"):
        tagger(LONG, treshold=0.1)


def test_pipelines_open_folders_by_themselves(model_folder: Path) -> None:
    for task in ("audio-classification", "audio-tagging"):
        assert pipeline(task, model=str(model_folder))(LONG)


def test_pipelines_of_other_models_are_left_alone(tmp_path: Path) -> None:
    config = ASTConfig(**SIZE, **GEOMETRY | {"patch_size": 6}, num_labels=5)
    model = ASTForAudioClassification(config).eval()
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=50)
    classifier = pipeline("audio-classification", model=model, feature_extractor=extractor)
    with torch.no_grad():
        logits = model(**extractor(LONG, 16000, return_tensors="pt")).logits[0]
    torch.testing.assert_close(scores(classifier(LONG, top_k=5)), logits.softmax(-1), atol=1e-6, rtol=0)
    with pytest.raises(ImportError, match="torchaudio"):
        classifier({"array": sine(48000, 0.5), "sampling_rate": 48000})


def test_a_new_head_is_not_passed_over_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_ssast().save_pretrained(tmp_path)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        pipeline("audio-classification", model=str(tmp_path))
    assert "classifier.linear.weight" in caplog.text
