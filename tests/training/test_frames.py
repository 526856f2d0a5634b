"""Labels of cells: where they lie, and that they stay with the sound through crops, rolls, mixing and padding."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from docs.guides.calls import RATE, write_calls
from hf_ast import HfASTFeatureExtractor
from hf_ast.data.sources import Source
from hf_ast.data.strong_labels import UNNAMED, MarkedEvent, StronglyLabelledData, read_events
from hf_ast.training.augmentation import Augmentation
from hf_ast.training.finetune import finetune, make_trainer
from hf_ast.training.frames import (
    EventClips,
    EventCollator,
    EventRows,
    cell_labels,
    cell_metrics,
    clip_edges_s,
    rolled,
)
from hf_ast.training.preparation import load_for_training
from hf_ast.training.presets import Preset
from hf_ast.training.recipe_trainer import training_arguments
from tests.support.tiny import tiny_config, tiny_fpasst_config, tiny_frames, tiny_model

EDGES = np.array([0.0, 0.15, 0.25, 0.35, 0.45, 0.55])


def names_at(labels: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(cell).tolist() for cell in labels]


@pytest.mark.parametrize(
    ("start_s", "end_s", "cells"),
    [
        (0.0, 0.55, [0, 1, 2, 3, 4]),
        (0.16, 0.34, [1, 2]),  # the centres are 0.075, 0.2, 0.3, 0.4, 0.5
        (0.21, 0.29, [2]),  # holds no centre; its middle is the edge of two cells
        (0.16, 0.18, [1]),
        (0.0, 0.01, [0]),
        (0.54, 0.9, [4]),
        (-1.0, 0.1, [0]),
        (0.55, 0.9, []),
        (-1.0, 0.0, []),
    ],
)
def test_a_cell_has_the_classes_whose_events_hold_its_centre(start_s: float, end_s: float, cells: list[int]) -> None:
    labels = cell_labels([MarkedEvent(1, start_s, end_s)], EDGES, 3)
    assert names_at(labels) == [[1] if cell in cells else [] for cell in range(5)]


def test_beside_an_event_without_a_name_only_what_is_named_is_known() -> None:
    labels = cell_labels([MarkedEvent(0, 0.1, 0.35), MarkedEvent(UNNAMED, 0.15, 0.46)], EDGES, 2)
    np.testing.assert_array_equal(labels, [[0, 0], [1, np.nan], [1, np.nan], [np.nan, np.nan], [0, 0]])


def test_edges_are_those_of_the_patches() -> None:
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    edges = clip_edges_s(tiny_config(), extractor, 8240)  # 50 frames, 12 columns of 6 frames, 4 apart
    assert len(edges) == 13
    # Frame 0 is centred on 12.5 ms, the first patch 25 ms later
    np.testing.assert_allclose(edges[1:-1], 0.0125 + 0.025 + 0.04 * (np.arange(11) + 0.5), atol=1e-12)
    assert (edges[0], edges[-1]) == (0.0, 8240 / RATE)
    fixed = clip_edges_s(tiny_fpasst_config(), extractor, 4000)
    np.testing.assert_allclose(fixed, np.linspace(0, 0.25, 11), atol=1e-12)


def test_what_leaves_a_part_at_one_end_returns_at_the_other() -> None:
    events = [MarkedEvent(0, -0.5, 0.25), MarkedEvent(1, 0.5, 0.9), MarkedEvent(0, 1.5, 2.0)]
    moved = cell_labels(rolled(events, 0.3, 1.0), np.linspace(0, 1, 11), 2)
    assert names_at(moved) == [[1], [1], [], [0], [0], [], [], [], [1], [1]]


# --- Rows and batches


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StronglyLabelledData:
    folder = tmp_path_factory.mktemp("calls")
    write_calls(folder, 8)
    return read_events(folder)


def make_rows(data: StronglyLabelledData, augmentation: Augmentation | None = None) -> tuple[EventRows, EventCollator]:
    config, extractor = tiny_config(max_length=100), HfASTFeatureExtractor(num_mel_bins=32, max_length=100)
    clips = EventClips(data, data.of("train"), config, extractor, random=True)
    rows = EventRows(clips, augmentation or Augmentation())
    rows.set_epoch(0)
    return rows, EventCollator(extractor, config, len(data.labels))


def loud_cells(waveform: np.ndarray, edges_s: np.ndarray) -> np.ndarray:
    """Whether a cell is loud, by its middle half: calls are ten times as loud as the noise."""
    middle = [(a + (b - a) / 4, b - (b - a) / 4) for a, b in itertools.pairwise(edges_s)]
    level = [np.sqrt(np.mean(waveform[round(a * RATE) : round(b * RATE)] ** 2)) for a, b in middle]
    return np.array(level) > 0.06


@pytest.mark.parametrize("max_roll", [0, 40])
def test_labels_stay_with_the_sound(data: StronglyLabelledData, max_roll: int) -> None:
    rows, _ = make_rows(data, Augmentation(max_roll=max_roll))
    edges = clip_edges_s(rows.clips.config, rows.clips.feature_extractor, rows.clips.feature_extractor.max_samples)
    agree = []
    for index in range(len(rows)):
        row = rows[index]
        labels = row["labels"].reshape(-1, 2)[:-1]
        agree += (labels.any(axis=1) == loud_cells(row["waveform"], edges)).tolist()
    # All but a few cells in which a call begins or ends, or a trill pauses
    assert np.mean(agree) > 0.93


def test_half_of_an_epoch_is_around_events_of_each_class_as_often(data: StronglyLabelledData) -> None:
    rows, _ = make_rows(data)
    weights = rows.clips.weights
    assert weights.sum() == pytest.approx(1.0)
    for label in range(2):
        chosen = [aim is not None and aim[0] == label for aim in rows.clips.aims]
        assert weights[chosen].sum() == pytest.approx(0.25)
    around = [number for number, aim in enumerate(rows.clips.aims) if aim is not None]
    for number in around:
        row = rows.clips[number]
        assert row["labels"][-2:][rows.clips.aims[number][0]] == 1.0  # type: ignore[index]


def test_weak_labels_are_unknown_in_cells_and_known_in_clips(data: StronglyLabelledData) -> None:
    name = next(clip.name for clip in data.of("train") if len(clip.labels) == 2)
    rows, collator = make_rows(replace(data, weak=frozenset((name,))))
    numbers = [index for index, clip in enumerate(rows.clips.rows) if clip.name == name]
    batch = collator([rows.clips[index] for index in numbers])
    assert (batch["labels"] == -100).all()
    assert (batch["clip_labels"] == 1).all()
    strong = collator([rows.clips[index] for index, clip in enumerate(rows.clips.rows) if clip.name != name])
    assert (strong["labels"] >= 0).all()
    assert torch.equal(strong["clip_labels"], strong["labels"].amax(dim=1))


def test_mixed_cells_have_mixed_labels_and_unknown_ones_stay_unknown(data: StronglyLabelledData) -> None:
    name = next(clip.name for clip in data.of("train") if clip.labels)
    rows, collator = make_rows(replace(data, weak=frozenset((name,))), Augmentation(mixup_probability=1.0))
    batch = collator([rows[index] for index in range(len(rows))])
    known = batch["labels"] != -100
    assert 0 < known.float().mean() < 1
    values = batch["labels"][known]
    assert ((values >= 0) & (values <= 1)).all()
    assert ((values > 0) & (values < 1)).any()
    assert ((batch["clip_labels"] >= 0) & (batch["clip_labels"] <= 1)).all()


def test_cells_of_the_padding_do_not_count() -> None:
    config, extractor = tiny_config(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    data = StronglyLabelledData(
        source=Source(kind="folder", location="x"), clips=[], labels=["a", "b"], multi_label=True
    )
    clips = EventClips(data, [], config, extractor)
    rows = [
        {"waveform": np.random.default_rng(0).normal(size=size), "labels": clips.vector([], size, np.zeros(2))}
        for size in (8240, 4000)
    ]
    batch = EventCollator(extractor, config, 2)(rows)
    num_cells = config.num_cells_of(extractor.num_frames(4000))
    assert batch["labels"].shape == (2, 12, 2)
    assert (batch["labels"][0] == 0).all()
    assert (batch["labels"][1, :num_cells] == 0).all()
    assert (batch["labels"][1, num_cells:] == -100).all()


def test_metrics_are_those_of_known_cells() -> None:
    logits = np.array([[[2.0], [1.0], [0.0]], [[3.0], [-1.0], [9.0]]])
    labels = np.array([[[1.0], [0.0], [-100]], [[1.0], [0.0], [-100]]])
    prediction: Any = type("Prediction", (), {})()
    prediction.predictions, prediction.label_ids = (logits, logits[:, 0]), (labels, labels[:, 1])
    assert cell_metrics(prediction)["mAP"] == 1.0
    prediction.label_ids = (np.full_like(labels, -100), np.array([[1.0], [0.0]]))
    assert cell_metrics(prediction)["mAP"] == pytest.approx(0.5)


# --- Models


def saved(folder: Path, model: Any, extractor: Any = None) -> Path:
    model.save_pretrained(folder)
    (extractor or HfASTFeatureExtractor(num_mel_bins=32, max_length=100)).save_pretrained(folder)
    return folder


QUICK = Preset(learning_rate=1e-3, num_epochs=1, batch_size=8, adam_beta1=0.9)


def test_a_head_for_the_same_classes_is_kept_and_any_other_is_new(data: StronglyLabelledData, tmp_path: Path) -> None:
    frames = tiny_frames(
        max_length=100, num_labels=2, id2label={0: "trill", 1: "chirp"}, label2id={"trill": 0, "chirp": 1}
    )
    frames.config.event_thresholds = [0.2, 0.7]
    start = saved(tmp_path, frames)
    model, _, moved = load_for_training(start, data, QUICK)
    assert moved.labels == ["trill", "chirp"]
    assert torch.equal(model.frame_classifier.linear.weight, frames.frame_classifier.linear.weight)
    assert model.config.event_thresholds is None
    other = replace(data, labels=["a", "b"])
    model, _, _ = load_for_training(start, other, QUICK)
    assert model.frame_classifier.linear.weight.abs().max() < 0.2  # freshly drawn
    assert model.config.clip_head == "linear"
    weak = replace(other, weak=frozenset(("00.wav",)))
    assert load_for_training(saved(tmp_path / "clips", tiny_model(max_length=100)), weak, QUICK)[
        0
    ].config.clip_head == ("attention")


def test_training_gives_a_folder_with_thresholds_events_and_measures(
    data: StronglyLabelledData, tmp_path: Path
) -> None:
    start = saved(tmp_path / "start", tiny_model(max_length=100))
    done = finetune(data, tmp_path / "out", model=start, preset=QUICK, num_workers=0)
    assert type(done.model).__name__ == "HfASTForAudioFrameClassification"
    assert done.evaluation is not None
    result = done.evaluation.as_data()
    assert result["metrics"].keys() == {
        "PSDS1", "PSDS2", "event_F1", "event_F1_micro", "segment_F1", "segment_F1_micro"
    }  # fmt: skip
    reopened = type(done.model).from_pretrained(tmp_path / "out")
    assert reopened.config.event_thresholds == [row["threshold"] for row in result["classes"]]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| F1 over events | threshold |" in card
    assert "| PSDS1 |" in card
    assert (tmp_path / "out" / "results.png").stat().st_size > 5000


def test_clip_labels_are_counted_over_a_whole_step(data: StronglyLabelledData, tmp_path: Path) -> None:
    weak = frozenset(clip.name for clip in data.of("train")[:3])
    mixed = replace(data, weak=weak)
    start = saved(tmp_path / "start", tiny_model(max_length=100))
    weights = []
    for size, steps in ((4, 1), (2, 2)):
        torch.manual_seed(0)
        model, extractor, of_model = load_for_training(start, mixed, QUICK)
        preset = replace(QUICK, batch_size=size)
        arguments = training_arguments(
            tmp_path / f"{size}", preset, eval_every=10, has_validation=False, gradient_accumulation_steps=steps,
            max_steps=2, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        make_trainer(model, extractor, of_model, preset, arguments).train()
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert weights[0].isfinite().all()
    torch.testing.assert_close(weights[0], weights[1], atol=2e-4, rtol=1e-3)  # Adam turns rounding of tiny gradients
