"""What stands beside a result: baselines, standard errors, and sentences about what is uncertain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import layer_norm

from hf_ast import HfASTFeatureExtractor, audio, load_classifier, scene_embeddings, tag
from hf_ast.data.labelled import LabelledData, read_data
from hf_ast.training.baselines import Baselines, LinearClassifier, baselines, cross_validated, standard_errors, verdict
from hf_ast.training.data_checks import remarks
from hf_ast.training.probe import probe
from tests.support.labelled import NOISE, PULSES, TONES, waveform, write_folder
from tests.support.tiny import tiny_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    return read_data(write_folder(tmp_path_factory.mktemp("data") / "recordings"), validation_fraction=0.0)


def clouds(num_classes: int, number: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    classes = np.arange(number) % num_classes
    return rng.normal(size=(number, 4)) * [1, 10, 0.1, 1] + classes[:, None], np.eye(num_classes)[classes]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_linear_classifier_is_that_of_scikit_learn(num_classes: int) -> None:
    inputs, targets = clouds(num_classes)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(inputs, targets.argmax(1))
    ours = LinearClassifier.fit(inputs, targets, multi_label=False)
    np.testing.assert_allclose(ours.scores(inputs), pipeline.predict_proba(inputs), atol=1e-6)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    expected = cross_val_predict(pipeline, inputs, targets.argmax(1), cv=folds, method="predict_proba")
    np.testing.assert_allclose(cross_validated(inputs, targets, multi_label=False), expected, atol=1e-6)


def test_a_class_that_never_occurs_and_several_labels() -> None:
    inputs, targets = clouds(2)
    more = np.column_stack((targets, np.zeros(30)))
    scores = LinearClassifier.fit(inputs, more, multi_label=False).scores(inputs)
    assert scores[:, 2].max() < 1e-9
    several = np.column_stack((targets, np.ones(30), np.zeros(30)))
    scores = LinearClassifier.fit(inputs, several, multi_label=True).scores(inputs)
    assert (scores[:, 2].min(), scores[:, 3].max()) == pytest.approx((1.0, 0.0))
    np.testing.assert_allclose(scores[:, 0] + scores[:, 1], 1.0, atol=1e-3)


def test_one_speaker_stays_in_one_part() -> None:
    inputs, targets = clouds(2)
    groups = [str(number // 6) for number in range(30)]
    alone = cross_validated(inputs, targets, multi_label=False, groups=groups)
    part = slice(0, 6)
    rest = LinearClassifier.fit(inputs[6:], targets[6:], multi_label=False)
    np.testing.assert_allclose(alone[part], rest.scores(inputs[part]), atol=1e-6)


def test_standard_errors_shrink_with_the_number_and_are_never_zero() -> None:
    targets = np.eye(2)[np.arange(40) % 2]
    half = np.where((np.arange(40) % 4 < 2)[:, None], targets, 1 - targets)
    errors = standard_errors(targets, half, multi_label=False)
    assert errors["accuracy"] == pytest.approx((0.5 * 0.5 / 40) ** 0.5)
    assert errors["balanced_accuracy"] == pytest.approx((2 * 0.5 * 0.5 / 20) ** 0.5 / 2, rel=0.01)
    perfect = standard_errors(targets, targets, multi_label=False)
    assert all(0 < perfect[name] < errors[name] for name in perfect)


def test_a_result_that_does_not_beat_a_baseline_says_so() -> None:
    found = Baselines(largest_class={"mAP": 0.2}, linear={"mAP": 0.6}, is_cross_validated=False)
    errors = {"mAP": 0.05}
    assert verdict({"mAP": 0.71}, errors, found, multi_label=True) == []
    (said,) = verdict({"mAP": 0.69}, errors, found, multi_label=True)
    assert "0.690 (standard error 0.050) is not clearly better than a linear classifier" in said
    said = " ".join(verdict({"mAP": 0.2}, errors, found, multi_label=True))
    assert "is not better than always giving the largest class, which reaches 0.200" in said
    assert "which reaches 0.600" in said


def test_baselines_of_tones_noise_and_pulses(data: LabelledData) -> None:
    test = [replace(clip, split="test") if number % 3 == 0 else clip for number, clip in enumerate(data.clips)]
    split = replace(data, clips=test)
    found = baselines(split, split.of("test"))
    assert not found.is_cross_validated
    assert found.largest_class["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found.linear is not None
    assert found.linear["accuracy"] > 0.7  # spectra of tones and of noise differ
    whole = baselines(data, data.clips)
    assert whole.is_cross_validated
    assert whole.linear is not None
    assert whole.linear["accuracy"] > 0.7


def test_what_makes_data_difficult_is_said(data: LabelledData) -> None:
    labels = {label: number for number, label in enumerate(data.labels)}
    by_class = [[clip for clip in data.clips if clip.labels == (number,)] for number in labels.values()]
    uneven = [*by_class[0], *by_class[1][:1]]
    uneven[0] = replace(uneven[0], split="validation")
    warned = {"a.wav": "it is in the split 'train', and the same recording 'b.wav' in 'validation'"}
    said = " ".join(remarks(replace(data, clips=uneven, warned=warned)))
    for part in (
        f"No training recording of {data.labels[2]}",
        f"Fewer than 10 training recordings of {data.labels[1]} (1)",
        f"No validation recording of {data.labels[1]}, {data.labels[2]}",
        "The largest class has 11 training recordings, the smallest 1",
        "1 recordings are the same as others in another split, such as a.wav",
    ):
        assert part in said
    assert "No validation recordings" in next(remarks(data))


def test_a_probe_is_scikit_learn_on_embeddings_and_opens_as_a_model(data: LabelledData, tmp_path: Path) -> None:
    model, extractor = tiny_model(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    model.save_pretrained(tmp_path / "model")
    extractor.save_pretrained(tmp_path / "model")
    done = probe(data, tmp_path / "out", model=tmp_path / "model")
    assert done.split == "cross-validation"
    extractor = done.feature_extractor
    embeddings, classes = [], []
    for clip in data.clips:
        samples, _ = audio.read(Path(data.source.location) / clip.name, 16000)
        embedding = scene_embeddings(model, extractor, samples)
        embeddings.append(layer_norm(embedding, (32,))[0].double().numpy())
        classes.append(clip.labels[0])
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    expected = cross_val_predict(pipeline, np.stack(embeddings), classes, cv=folds, method="predict_proba")
    assert done.evaluation is not None
    # Both stop when the gradient is small, at slightly different weights
    np.testing.assert_allclose(done.evaluation.scores, expected, atol=1e-3)

    classifier, front_end = load_classifier(tmp_path / "out")
    fitted = pipeline.fit(np.stack(embeddings), classes).predict_proba(np.stack(embeddings))
    for row, clip in enumerate(data.clips[:4]):
        scores = tag(classifier, front_end, Path(data.source.location) / clip.name).scores
        np.testing.assert_allclose(scores, fitted[row], atol=2e-3)
    assert "hf-ast probe" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="holds a model already"):
        probe(data, tmp_path / "out", model=tmp_path / "model")
    few = replace(data, clips=data.clips[:9])
    with pytest.raises(ValueError, match="needs 10 recordings and two classes"):
        probe(few, tmp_path / "few", model=tmp_path / "model")


def test_copies_in_two_splits_are_found_in_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in (NOISE, PULSES, TONES):
        for split in ("train", "test"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                soundfile.write(folder / f"{number}.wav", waveform(label, 8000, 0.3, rng), 8000)
    (tmp_path / "test" / NOISE / "0.wav").write_bytes((tmp_path / "train" / NOISE / "0.wav").read_bytes())
    said = " ".join(remarks(read_data(tmp_path)))
    assert "2 recordings are the same as others in another split" in said
