"""Events from scores over time."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from hf_ast.inference.events import BLOCK, Event, EventFinder, EventRule, find_events
from tests.support.plain_events import plain_events


def found(*scores: float, **settings: Any) -> list[tuple[float, float, float]]:
    """Start, end and peak of the events in cells of one second."""
    return [event[1:] for event in find_events(torch.tensor(scores)[:, None], 1.0, ["a"], **settings)]


def test_an_event_lasts_as_long_as_the_score_is_above_the_release() -> None:
    assert found(0.1, 0.6, 0.3, 0.7, 0.1, release=0.25) == [(1.0, 4.0, pytest.approx(0.7))]
    assert found(0.6, 0.3, 0.1, 0.3, release=0.25) == [(0.0, 2.0, pytest.approx(0.6))]
    assert found(0.4, 0.4, 0.4, release=0.25) == []
    assert found(0.6, 0.5, 0.6) == [(0.0, 1.0, pytest.approx(0.6)), (2.0, 3.0, pytest.approx(0.6))]
    assert found() == []


def test_gaps_are_closed_before_short_events_are_dropped() -> None:
    scores = (0.9, 0.1, 0.9, 0.1, 0.1, 0.9, 0.9, 0.1, 0.9)
    assert found(*scores, longest_gap_s=1.0) == [(0.0, 3.0, pytest.approx(0.9)), (5.0, 9.0, pytest.approx(0.9))]
    assert found(*scores, shortest_s=2.0) == [(5.0, 7.0, pytest.approx(0.9))]
    assert found(*scores, shortest_s=4.0, longest_gap_s=1.0) == [(5.0, 9.0, pytest.approx(0.9))]


def test_a_median_removes_what_is_shorter_than_half_of_it() -> None:
    assert found(0.1, 0.9, 0.1, 0.1, 0.9, 0.8, 0.7, 0.1, median_s=3.0) == [(4.0, 7.0, pytest.approx(0.8))]
    # A median over less than two cells changes nothing; one that is longer than the recording takes the middle value
    assert found(0.1, 0.9, 0.1, median_s=1.4) == [(1.0, 2.0, pytest.approx(0.9))]
    assert found(0.1, 0.9, 0.8, median_s=51.0) == [(0.0, 3.0, pytest.approx(0.8))]


def test_labels_have_thresholds_of_their_own() -> None:
    scores = np.array([[0.35, 0.35, 0.6]])
    events = find_events(scores, 1.0, ["a", "b", "c"], threshold={"a": 0.3})
    assert [event.label for event in events] == ["c", "a"]
    events = find_events(scores, 1.0, ["a", "b", "c"], threshold={"a": 0.3, "b": 0.34, "c": 0.9}, release=0.1)
    assert [event.label for event in events] == ["a", "b"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold=0.0 must be greater than 0"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"threshold": {"a": 2.0}}, "threshold=2.0 of 'a'"),
        ({"threshold": {"c": 0.5}}, "threshold names 'c', which is not among the 2 labels"),
        ({"release": 0.6}, "release=0.6 must be greater than 0 and at most threshold=0.5"),
        ({"threshold": {"a": 0.2}, "release": 0.3}, "release=0.3 of 'a'"),
        ({"median_s": -1.0}, "median_s=-1.0 must not be negative"),
        ({"shortest_s": float("nan")}, "shortest_s=nan must be a finite number"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_events(np.zeros((1, 2)), 1.0, ["a", "b"], **settings)


@pytest.mark.parametrize(
    ("scores", "cells_s", "labels", "message"),
    [
        ([[0.0], [np.nan]], 0.5, ["a"], "scores holds nan for 'a' at 0.5 s"),
        ([[np.inf, 0.0]], 0.5, ["a", "b"], "scores holds inf for 'a' at 0 s"),
        ([[0.0]], 1.0, ["a", "b"], "scores has shape"),
        ([0.0], 1.0, ["a"], "scores has shape"),
        ([[0.0]], [0.0, 1.0, 2.0], ["a"], "cells_s has shape"),
        ([[0.0], [0.0]], [0.0, 1.0, 1.0], ["a"], "must be finite and ascend"),
        ([[0.0]], 0.0, ["a"], "must be finite and ascend"),
        ([[0.0, 0.0]], 1.0, ["a", "a"], "labels has 'a' twice"),
    ],
)
def test_scores_that_fit_nothing(scores: Any, cells_s: Any, labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_events(np.array(scores), cells_s, labels)


def generated(seed: int) -> tuple[np.ndarray, np.ndarray, list[str], dict[str, Any], int]:
    """Scores, edges, labels and settings of all kinds, and the cells of the median."""
    rng = np.random.default_rng(seed)
    num_cells, num_labels = int(rng.integers(1, 60)), int(rng.integers(1, 5))
    noise = rng.random((num_cells + 8, num_labels))
    width = int(rng.integers(1, 9))
    scores = np.lib.stride_tricks.sliding_window_view(noise, width, axis=0)[:num_cells].mean(-1)
    scores = np.clip(0.5 + (scores - 0.5) * np.sqrt(width), 0, 1)
    if rng.random() < 0.5:  # so that scores meet their thresholds
        scores = np.round(scores * 10) / 10
    labels = [f"label {index}" for index in range(num_labels)]
    cell_s = float(rng.choice([0.01, 0.04, 0.1, 1 / 3, 1.0]))
    edges_s = rng.integers(0, 3) * cell_s + np.arange(num_cells + 1) * cell_s
    if rng.random() < 0.3:  # the first and the last cell may have other lengths
        edges_s[0] -= 0.3 * cell_s
        edges_s[-1] -= 0.5 * cell_s
    median_cells = int(rng.integers(1, 8)) if rng.random() < 0.5 else 1
    threshold = dict(zip(labels, rng.choice([0.3, 0.5, 0.6, 0.8], num_labels), strict=True))
    settings = {
        "threshold": threshold,
        "release": {label: high * rng.choice([0.5, 0.75, 1.0]) for label, high in threshold.items()},
        "shortest_s": float(rng.choice([0, 1, 2, 5]) * cell_s),
        "longest_gap_s": float(rng.choice([0, 1, 2, 5]) * cell_s),
    }
    return scores.astype(np.float32), edges_s, labels, settings, median_cells


def check_generated(seed: int) -> int:
    """Compare with the plain reference, as a whole and in pieces, and return the number of events."""
    scores, edges_s, labels, settings, median_cells = generated(seed)
    cell_s = float(np.median(np.diff(edges_s)))
    expected = plain_events(scores, edges_s, labels, median_cells=median_cells, **settings)
    events = find_events(scores, edges_s, labels, median_s=median_cells * cell_s, **settings)
    assert events == expected, seed
    for label in labels:
        of_label = [event for event in events if event.label == label]
        assert all(one.end_s < next_one.start_s for one, next_one in itertools.pairwise(of_label)), seed
    assert all(edges_s[0] <= event.start_s < event.end_s <= edges_s[-1] for event in events), seed
    rng = np.random.default_rng(seed)
    cuts = [0, *np.sort(rng.integers(0, len(scores) + 1, rng.integers(0, 6))), len(scores)]
    finder = EventFinder(labels, cell_s, median_s=median_cells * cell_s, **settings)
    for _ in range(2):  # the second time as a new recording
        pieces = [finder.push(scores[a:b], edges_s[a : b + 1]) for a, b in itertools.pairwise(cuts)]
        in_pieces = [event for piece in [*pieces, finder.flush()] for event in piece]
        assert sorted(in_pieces) == sorted(expected), seed
    return len(events)


def test_events_are_those_of_the_plain_reference() -> None:
    assert sum(map(check_generated, range(200))) > 500


@pytest.mark.slow
def test_events_of_ten_thousand_recordings_are_those_of_the_plain_reference() -> None:
    assert sum(map(check_generated, range(1000, 11_000))) > 25_000


def test_an_event_goes_on_from_block_to_block() -> None:
    scores = np.zeros((2 * BLOCK + 10, 2))
    scores[BLOCK - 3 : 2 * BLOCK + 2, 1] = 0.9
    assert find_events(scores, 0.04, ["a", "b"]) == [
        Event("b", pytest.approx((BLOCK - 3) * 0.04), pytest.approx((2 * BLOCK + 2) * 0.04), pytest.approx(0.9))
    ]


def test_an_event_of_a_stream_is_told_as_soon_as_nothing_can_change_it() -> None:
    finder = EventFinder(["a"], 1.0, longest_gap_s=1.5)
    told = []
    for second, score in enumerate((0.9, 0.1, 0.9, 0.1, 0.1, 0.9)):
        told.append(finder.push(np.array([[score]]), np.array([second, second + 1.0])))
    assert told == [[], [], [], [], [Event("a", 0.0, 3.0, pytest.approx(0.9))], []]
    assert finder.flush() == [Event("a", 5.0, 6.0, pytest.approx(0.9))]


def test_defaults_are_a_threshold_of_one_half_and_nothing_else() -> None:
    assert EventRule() == EventRule(threshold=0.5, release=None, median_s=0.0, shortest_s=0.0, longest_gap_s=0.0)
