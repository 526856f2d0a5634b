"""Labels of recordings, window by window."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from hf_ast.inference.tagging import load_classifier, tag_recording, window_starts
from tests.support.tiny import GEOMETRY, SIZE, randomize


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
