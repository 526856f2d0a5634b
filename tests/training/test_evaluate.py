"""Evaluation gives the scores of the pipeline, for any model, and the five folds of ESC-50."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import soundfile
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from hf_ast import HfASTFeatureExtractor, audio, load_classifier, tag
from hf_ast.data.labelled import LabelledData, read_data
from hf_ast.training.esc50 import FOLDS, evaluate_folds, read_esc50
from hf_ast.training.evaluate import evaluate
from tests.support.labelled import NOISE, PULSES, TONES, waveform, write_folder
from tests.support.tiny import passt_extractor, tiny_model, tiny_passt

LABELS = {0: PULSES, 1: "cow", 2: NOISE, 3: TONES, 4: "dog"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    folder = write_folder(tmp_path_factory.mktemp("data") / "recordings", num_clips=5)
    long = waveform(NOISE, 16000, 1.3, np.random.default_rng(0))
    soundfile.write(folder / NOISE / "long.wav", long, 16000)
    return read_data(folder)


@pytest.mark.parametrize("family", ["ast", "passt"])
def test_scores_are_those_that_hf_ast_tag_gives(data: LabelledData, family: str) -> None:
    model, extractor = (
        (tiny_model(id2label=LABELS), HfASTFeatureExtractor(num_mel_bins=32, max_length=50))
        if family == "ast"
        else (tiny_passt(id2label=LABELS), passt_extractor())
    )
    model.config.id2label = LABELS
    result = evaluate(model, extractor, data, batch_size=4)
    assert result.labels == list(LABELS.values())
    assert len(result.names) == 16
    for name, scores, target in zip(result.names, result.scores, result.targets, strict=True):
        expected = tag(model, extractor, Path(data.source.location) / name)
        # Sums in other orders, in batches of other sizes
        np.testing.assert_allclose(scores, expected.scores, atol=2e-6)
        assert LABELS[int(target.argmax())] == name.split("/")[0]
        assert target.sum() == 1
    accuracy = sklearn.metrics.accuracy_score(result.targets.argmax(1), result.scores.argmax(1))
    assert result.metrics.values["accuracy"] == pytest.approx(accuracy, abs=1e-9)
    seen = [0, 2, 3]
    expected = sklearn.metrics.average_precision_score(result.targets[:, seen], result.scores[:, seen])
    assert result.metrics.values["mAP"] == pytest.approx(expected, abs=1e-6)
    as_data = result.as_data()
    assert as_data["num_recordings"] == 16
    assert [row["average_precision"] is None for row in as_data["classes"]] == [False, True, False, False, True]
    true, predicted = result.targets.argmax(axis=1).tolist(), result.scores.argmax(axis=1).tolist()
    pairs = Counter((LABELS[row], LABELS[column]) for row, column in zip(true, predicted, strict=True))
    assert {(row["true"], row["predicted"]): row["num_recordings"] for row in as_data["confusion"]} == pairs
    shown = {label.get_text() for label in result.figure().axes[0].get_yticklabels()}
    assert shown == {TONES, NOISE, PULSES} | {LABELS[index] for index in result.scores.argmax(axis=1).tolist()}


def test_a_segment_scores_as_if_it_were_a_file_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    long = waveform(NOISE, 16000, 4.0, rng)
    soundfile.write(tmp_path / "long.wav", long, 16000, subtype="FLOAT")
    rows = [(0.5, 0.9, NOISE), (1.0, 2.5, PULSES), (0.25, 4.0, NOISE)]  # two are longer than the model's input
    lines = [f'long.wav,{start},{end},"{label}"' for start, end, label in rows]
    (tmp_path / "x.csv").write_text("\n".join(["path,start,end,label", *lines]))
    data = read_data(tmp_path / "x.csv", validation_fraction=0.0)
    model, extractor = tiny_model(id2label=LABELS), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    result = evaluate(model, extractor, data)
    assert result.names == ["long.wav [0.5, 0.9]", "long.wav [1, 2.5]", "long.wav [0.25, 4]"]
    for (start, end, _), scores in zip(rows, result.scores, strict=True):
        soundfile.write(tmp_path / "cut.wav", long[round(start * 16000) : round(end * 16000)], 16000, subtype="FLOAT")
        expected = tag(model, extractor, tmp_path / "cut.wav").scores
        np.testing.assert_allclose(scores, expected, atol=2e-6)  # sums in other orders, in other batches


def test_transformers_own_ast_gives_its_own_scores(data: LabelledData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_length=100,
        num_mel_bins=32, patch_size=8, frequency_stride=6, time_stride=6, id2label=LABELS, initializer_range=0.3,
    )  # fmt: skip
    native = ASTForAudioClassification(config).eval()
    native.save_pretrained(tmp_path)
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=100)
    extractor.save_pretrained(tmp_path)
    short = replace(data, clips=[clip for clip in data.clips if clip.duration_s < 0.6])
    ours = evaluate(*load_classifier(tmp_path), short)
    of_native = evaluate(native, extractor, short)
    # Layer norms have other epsilons, and the filter banks differ by float noise
    np.testing.assert_allclose(ours.scores, of_native.scores, atol=2e-3)
    assert ours.metrics.values["accuracy"] == of_native.metrics.values["accuracy"]


def test_a_recording_that_fails_costs_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone, and one that the model cannot take, in a batch with others."""
    data = read_data(write_folder(tmp_path / "recordings", num_clips=3))
    model, extractor = tiny_model(id2label=LABELS), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    whole = evaluate(model, extractor, data, batch_size=4)
    assert whole.failed == {}
    gone, refused = data.clips[1].name, data.clips[5].name
    (tmp_path / "recordings" / gone).unlink()
    samples, _ = audio.read(tmp_path / "recordings" / refused, 16000)
    reference = extractor(samples, 16000, return_tensors="pt")["input_values"][0]
    forward = model.forward

    def failing(input_values: torch.Tensor, **inputs: torch.Tensor) -> object:
        if any(torch.equal(row, reference) for row in input_values):
            raise RuntimeError("out of memory")
        return forward(input_values, **inputs)

    monkeypatch.setattr(model, "forward", failing)
    result = evaluate(model, extractor, data, batch_size=4)
    assert result.failed.keys() == {gone, refused}
    assert "does not exist" in result.failed[gone]
    assert result.failed[refused] == "RuntimeError: out of memory"
    assert result.as_data()["failed"] == [
        {"file": gone, "error": result.failed[gone]},
        {"file": refused, "error": "RuntimeError: out of memory"},
    ]
    kept = [row for row, name in enumerate(whole.names) if name not in result.failed]
    assert result.names == [whole.names[row] for row in kept]
    np.testing.assert_allclose(result.scores, whole.scores[kept], atol=2e-6)
    monkeypatch.setattr(model, "forward", lambda **_: 1 / 0)
    with pytest.raises(ValueError, match="none of its 9 recordings can be scored"):
        evaluate(model, extractor, data)


def test_a_split_that_is_empty_and_classes_that_the_model_does_not_know(data: LabelledData) -> None:
    model, extractor = tiny_model(id2label=LABELS), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    with pytest.raises(ValueError, match=r"split='test' holds no recording; there are \['train', 'validation'\]"):
        evaluate(model, extractor, data, split="test")
    with pytest.raises(ValueError, match="3 classes that the model does not know"):
        evaluate(tiny_model(), extractor, data)


def write_esc50(folder: Path) -> Path:
    """Ten recordings of two classes, two in each fold."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    rng, lines = np.random.default_rng(0), ["filename,fold,target,category,esc10,src_file,take"]
    for fold in FOLDS:
        for target, category in ((7, TONES), (0, NOISE)):
            name = f"{fold}-10{fold}-A-{target}.wav"
            soundfile.write(folder / "audio" / name, waveform(category, 16000, 0.3, rng), 16000)
            lines.append(f'{name},{fold},{target},"{category}",False,10{fold},A')
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_each_fold_of_esc50_is_the_test_of_a_model_that_has_not_heard_it(tmp_path: Path) -> None:
    data = read_esc50(write_esc50(tmp_path / "esc"))
    assert data.labels == [TONES, NOISE]
    model, extractor = tiny_model(id2label=LABELS), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    heard = {}

    def train(split: LabelledData, fold: str) -> tuple[object, object]:
        heard[fold] = {Path(clip.name).name[0] for clip in split.of("train")}
        assert not split.of("validation")
        return model, extractor

    results = evaluate_folds(data, "start", train=train)
    assert heard == {fold: set(FOLDS) - {fold} for fold in FOLDS}
    for fold, result in zip(FOLDS, results, strict=True):
        assert {Path(name).name[0] for name in result.names} == {fold}
        assert len(result.names) == 2
    whole = evaluate(model, extractor, data)
    mean = np.mean([result.metrics.values["accuracy"] for result in results])
    assert mean == pytest.approx(whole.metrics.values["accuracy"])

    for fold in FOLDS:
        model.save_pretrained(tmp_path / f"fold{fold}")
        extractor.save_pretrained(tmp_path / f"fold{fold}")
    trained = evaluate_folds(data, str(tmp_path / "fold{fold}"))
    for one, other in zip(trained, results, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    with pytest.raises(ValueError, match="would be evaluated on recordings that it was trained on"):
        evaluate_folds(data, "start")


def test_esc50_by_the_names_of_its_files(tmp_path: Path) -> None:
    folder = write_esc50(tmp_path / "esc")
    data = read_esc50(folder / "audio")
    assert data.labels == ["00", "07"]
    assert {clip.name: (clip.group, data.labels[clip.labels[0]]) for clip in data.clips} == {
        f"{fold}-10{fold}-A-{target}.wav": (fold, f"{target:02d}") for fold in FOLDS for target in (0, 7)
    }
    (folder / "audio" / "5-105-A-0.wav").unlink()
    (folder / "audio" / "5-105-A-7.wav").unlink()
    with pytest.raises(ValueError, match=r"has the folds \['1', '2', '3', '4'\], but ESC-50 has"):
        read_esc50(folder / "audio")


def test_a_recording_a_little_longer_than_the_input_is_scored_in_windows(tmp_path: Path) -> None:
    """Not cut at the end of the input, which would leave out its last tenth."""
    model, extractor = tiny_model(id2label=LABELS), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    window = extractor.max_samples
    rng = np.random.default_rng(0)
    for label, length in ((NOISE, window), (TONES, window + 1500)):
        (tmp_path / label).mkdir()
        soundfile.write(tmp_path / label / "a.wav", waveform(label, 16000, length / 16000, rng), 16000)
    result = evaluate(model, extractor, read_data(tmp_path), batch_size=2)
    for name, scores in zip(result.names, result.scores, strict=True):
        expected = tag(model, extractor, tmp_path / name)
        assert len(expected.window_scores) == (2 if TONES in name else 1)
        np.testing.assert_allclose(scores, expected.scores, atol=2e-6)
