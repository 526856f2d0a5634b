"""Tagging of whole recordings, from files and streams."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings, strategies as st
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

import hf_ast
from hf_ast import HfASTFeatureExtractor, StreamTagger, tag
from hf_ast.inference.loading import load_classifier, load_encoder
from hf_ast.inference.tagging import WindowScorer
from tests.support.tiny import (
    GEOMETRY,
    SIZE,
    passt_extractor,
    randomize,
    tiny_model,
    tiny_passt,
    tiny_ssast,
    waveforms,
)

MODELS = {
    "ast": (tiny_model(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)),
    "passt": (tiny_passt(problem_type="multi_label_classification"), passt_extractor()),
}


def recording(num_samples: int, seed: int = 0) -> np.ndarray:
    return waveforms(1, num_samples, seed)[0].numpy()


@torch.no_grad()
def by_hand(family: str, clips: list[np.ndarray]) -> torch.Tensor:
    """The definition: each window through extractor and model by itself."""
    model, extractor = MODELS[family]
    logits = torch.cat(
        [model(**extractor(clip, extractor.sampling_rate, return_tensors="pt")).logits for clip in clips]
    )
    return logits.sigmoid() if family == "passt" else logits.softmax(-1)


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize(("window_s", "hop_s"), [(None, None), (0.4, 0.1), (0.31, 0.07)])
def test_windows_are_scored_as_the_model_scores_them(family: str, window_s: float, hop_s: float) -> None:
    model, extractor = MODELS[family]
    rate = extractor.sampling_rate
    waveform = recording(round(2.345 * rate))
    window = extractor.max_samples if window_s is None else round(window_s * rate)
    expected_starts = list(range(0, len(waveform) - window + 1, window if hop_s is None else round(hop_s * rate)))
    expected_starts += [len(waveform) - window] if expected_starts[-1] != len(waveform) - window else []
    expected = by_hand(family, [waveform[start : start + window] for start in expected_starts])
    # Separate front ends differ by the order of sums in batches only; slices of one spectrogram also by the mean that
    # the extractor of AST subtracts, and by the order of sums in the filters
    for shared, tolerance in ((False, 1e-5), (True, 1e-4)):
        tagging = tag(model, extractor, waveform, window_s=window_s, hop_s=hop_s, batch_size=3, shared_features=shared)
        torch.testing.assert_close(tagging.window_scores, expected, atol=tolerance, rtol=0)
        starts = (tagging.window_times_s[:, 0] * rate).round().long().tolist()
        assert starts == expected_starts
        assert tagging.duration_s == pytest.approx(2.345)
        torch.testing.assert_close(tagging.scores, tagging.window_scores.mean(dim=0))


def test_a_short_recording_is_one_window() -> None:
    model, extractor = MODELS["ast"]
    waveform = recording(3000)
    tagging = tag(model, extractor, waveform)
    torch.testing.assert_close(tagging.window_scores, by_hand("ast", [waveform]), atol=1e-6, rtol=0)
    assert tagging.window_times_s.tolist() == [[0.0, 3000 / 16000]]
    assert [t.label for t in tagging.top(2)] == [tagging.labels[i] for i in tagging.scores.topk(2).indices]
    assert tagging.window_top(9)[0] == tagging.top(9)


def test_pooling() -> None:
    model, extractor = MODELS["passt"]
    quiet, loud = recording(64000), recording(64000, seed=1)
    waveform = np.concatenate((0.001 * quiet, loud))
    results = {pooling: tag(model, extractor, waveform, pooling=pooling) for pooling in ("mean", "max", "energy")}
    scores = results["mean"].window_scores
    torch.testing.assert_close(results["max"].scores, scores.amax(dim=0))
    is_loud = results["mean"].window_times_s[:, 0] >= 2
    torch.testing.assert_close(results["energy"].scores, scores[is_loud].mean(dim=0), atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="pooling='median' is unknown"):
        tag(model, extractor, waveform, pooling="median")


@pytest.mark.parametrize("rate", [16000, 44100])
def test_every_form_of_a_recording_gives_the_same(rate: int, tmp_path: Path) -> None:
    model, extractor = MODELS["ast"]
    stereo = waveforms(2, 2 * rate).numpy().T
    path = tmp_path / "stereo.wav"
    soundfile.write(path, stereo, rate, subtype="FLOAT")
    expected = tag(model, extractor, path).window_scores

    class Decoder:  # as the one of `datasets`
        def get_all_samples(self) -> Any:
            return type("Samples", (), {"data": torch.from_numpy(stereo.T.copy()), "sample_rate": rate})

    sources = {
        "text": str(path),
        "bytes": path.read_bytes(),
        "(samples, channels)": {"array": stereo, "sampling_rate": rate},
        "(channels, samples)": {"array": stereo.T, "sampling_rate": rate},
        "tensor": {"array": torch.from_numpy(stereo.T.copy()), "sampling_rate": torch.tensor(rate)},
        "raw": {"raw": stereo.mean(axis=1), "sampling_rate": rate},
        "undecoded": {"bytes": path.read_bytes(), "path": None},
        "undecoded path": {"bytes": None, "path": str(path)},
        "row": {"audio": {"bytes": path.read_bytes(), "path": "x.wav"}, "label": 3},
        "decoder": Decoder(),
    }
    for name, source in sources.items():
        found = tag(model, extractor, source).window_scores
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=name)
    found = tag(model, extractor, stereo.mean(axis=1), sampling_rate=rate).window_scores
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (np.zeros((3, 5), dtype=np.float32), {}, r"shape \(3, 5\), in which the channel axis is ambiguous"),
        (np.zeros(9000, dtype=np.int16), {}, "divide 16-bit samples by 32768"),
        (np.full(9000, np.nan, dtype=np.float32), {}, "NaN or infinite"),
        (np.zeros(0, dtype=np.float32), {}, "source holds no samples"),
        ({"label": 3}, {}, r"mapping with the keys \['label'\]"),
        (None, {}, "NoneType"),
        (recording(9000), {"window_s": 2.0}, r"window_s=2.0 is longer than what the model hears at once \(0.515 s\)"),
        (recording(9000), {"hop_s": 0.6}, "hop=9600 must be between 1 and window=8240"),
        (recording(9000), {"hop_s": 0.0}, "hop_s=0.0 must be at least one sample"),
        (recording(9000), {"batch_size": 0}, "batch_size=0"),
        (recording(9000), {"threshold": 2.0}, "threshold=2.0"),
        (recording(9000), {"threshold": {"LABEL_9": 0.4}}, "threshold names 'LABEL_9'"),
    ],
)
def test_errors(source: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tag(*MODELS["ast"], source, **settings)


def test_models_are_in_eval_mode_for_the_call() -> None:
    model, extractor = tiny_model(time_patchout=2, hidden_dropout_prob=0.5), MODELS["ast"][1]
    waveform = recording(16000)
    expected = tag(model, extractor, waveform).window_scores
    model.train()
    model.backbone.layers[0].eval()  # frozen by its owner
    torch.testing.assert_close(tag(model, extractor, waveform).window_scores, expected)
    assert model.training
    assert not model.backbone.layers[0].training
    assert model.backbone.layers[1].training


@settings(max_examples=500, deadline=None)
@given(
    st.integers(1, 20000),
    st.sampled_from([None, 0.11, 0.25]),
    st.lists(st.integers(0, 9000), max_size=6),
)
def test_a_stream_is_tagged_like_the_recording(num_samples: int, hop_s: float | None, sizes: list[int]) -> None:
    model, extractor = MODELS["ast"]
    waveform = recording(num_samples + 400)
    tagging = tag(model, extractor, waveform, hop_s=hop_s)
    stream = StreamTagger(model, extractor, hop_s=hop_s)
    windows = []
    for piece in np.split(waveform, np.minimum(np.cumsum(sizes), len(waveform)).astype(int)):
        windows += stream.push(piece)
    windows += stream.flush()
    times = torch.tensor([(window.start_s, window.end_s) for window in windows], dtype=torch.float64)
    torch.testing.assert_close(times, tagging.window_times_s)
    scores = torch.stack([window.scores for window in windows])
    torch.testing.assert_close(scores, tagging.window_scores, atol=1e-5, rtol=0)


def test_a_stream_refuses_what_are_no_samples_and_goes_on() -> None:
    stream = StreamTagger(*MODELS["ast"])
    assert stream.push(recording(8000)) == []
    for wrong in (np.zeros((2, 100), dtype=np.float32), np.zeros(100, dtype=np.int16), np.full(9, np.inf)):
        with pytest.raises(ValueError, match="samples"):
            stream.push(wrong)
    (window,) = stream.push(recording(400))
    assert (window.start_s, window.end_s) == (0.0, 8240 / 16000)
    assert len(window.top(2)) == 2


def test_checkpoints_of_transformers_own_ast_open_as_ours(tmp_path: Path) -> None:
    config = ASTConfig(**SIZE, **GEOMETRY | {"patch_size": 6}, num_labels=5)
    randomize(ASTForAudioClassification(config)).save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    model, extractor = load_classifier(tmp_path)
    assert (type(model).__name__, type(extractor).__name__) == ("HfASTForAudioClassification", "HfASTFeatureExtractor")


def test_a_checkpoint_without_a_head_is_no_classifier(tmp_path: Path) -> None:
    tiny_ssast().save_pretrained(tmp_path)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is not a trained classifier: the checkpoint has no classifier\.linear"):
        load_classifier(tmp_path)
    model, extractor = load_encoder(tmp_path)
    assert type(model).__name__ == "SSASTModel"
    assert hf_ast.scene_embeddings(model, extractor, waveforms(1, 4000)).shape == (1, 32)


def test_the_scores_of_a_stream_do_not_depend_on_which_windows_a_call_completes() -> None:
    """In batches of the same two windows, bit for bit; slices of one spectrogram would differ in the last bits."""
    model, extractor = MODELS["ast"]
    window, hop = round(0.4 * extractor.sampling_rate), round(0.1 * extractor.sampling_rate)
    waveform = recording(window + 3 * hop) + 0.3
    found = []
    for pieces in ([waveform], np.split(waveform, [window + hop])):
        stream = StreamTagger(model, extractor, window_s=0.4, hop_s=0.1, batch_size=2)
        found.append(torch.stack([scored.scores for piece in pieces for scored in stream.push(piece)]))
    assert len(found[0]) == 4
    assert torch.equal(*found)


def test_a_wrong_release_is_an_error_before_the_recording_is_read() -> None:
    with pytest.raises(ValueError, match="release"):
        tag(*MODELS["ast"], "there is no such file.wav", threshold=0.5, release=0.9)


def test_a_block_of_a_recording_completes_one_batch_of_windows() -> None:
    """With a hop shorter than the window as well: memory does not grow with their overlap."""
    model, extractor = MODELS["ast"]
    scorer = WindowScorer(model, extractor, window_s=0.4, hop_s=0.05, batch_size=3)
    rate = extractor.sampling_rate
    assert scorer.block_s == pytest.approx(3 * 0.05)
    blocks = hf_ast.audio.stream(recording(2 * rate), rate, block_s=scorer.block_s)
    sizes = [len(span.starts) for span in scorer.spans(blocks)]
    assert sum(sizes) == 33
    assert max(sizes) == 3
