"""Rows, scores and events of timelines."""

from typing import Any

import numpy as np
import pytest
import torch

from hf_ast.inference.events import Event, EventRule, find_events
from hf_ast.inference.tagging import Tagging
from hf_ast.plotting import plot_timeline, timeline


def tagging(scores: torch.Tensor, **settings: Any) -> Tagging:
    """Scores of cells of one second."""
    edges_s = torch.arange(len(scores) + 1, dtype=torch.float64)
    times_s = torch.stack((edges_s[:-1], edges_s[1:]), dim=1)
    labels = [f"label {index}" for index in range(scores.shape[1])]
    events, rule = find_events(scores, edges_s, labels, **settings), EventRule(**settings)
    return Tagging(labels, scores, times_s, scores, edges_s, scores.mean(0), events, rule, float(len(scores)))


def test_rows_are_in_the_order_in_which_labels_are_heard() -> None:
    scores = torch.tensor([[0.1, 0.2, 0.9, 0.0], [0.8, 0.3, 0.0, 0.0], [0.8, 0.1, 0.6, 0.0]])
    rows = timeline(tagging(scores))
    assert rows.labels == ["label 2", "label 0", "label 1", "label 3"]
    np.testing.assert_array_equal(rows.scores, scores.T[[2, 0, 1, 3]])
    assert rows.edges_s.tolist() == [0, 1, 2, 3]
    assert [[(event.start_s, event.end_s) for event in events] for events in rows.events] == [
        [(0, 1), (2, 3)], [(1, 3)], [], [],
    ]  # fmt: skip
    figure = plot_timeline(tagging(scores))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == rows.labels
    assert axes.get_title(loc="left") == "3 events (bars) of 2 labels in 3 s, and scores\ndashed: threshold 0.5"


def test_the_picture_shows_why_there_is_no_event() -> None:
    """A line for each limit, and what the median left of the scores."""
    scores = torch.tensor([[0.9, 0.9, 0.2, 0.2], [0.2, 0.2, 0.9, 0.2], [0.9, 0.9, 0.4, 0.2], [0.2, 0.2, 0.2, 0.2]]).T
    heard = tagging(scores, threshold={"label 0": 0.8}, release=0.3, median_s=3.0, shortest_s=3.0, longest_gap_s=1.0)
    rows = timeline(heard)
    assert rows.labels == ["label 2", "label 0", "label 1", "label 3"]
    assert [len(events) for events in rows.events] == [1, 0, 0, 0]
    np.testing.assert_allclose(rows.thresholds, [0.5, 0.8, 0.5, 0.5])
    np.testing.assert_allclose(rows.releases, 0.3)
    np.testing.assert_allclose(rows.scores[2], 0.2)
    axes = plot_timeline(heard).axes[0]
    heights = {
        round(float(line.get_segments()[0][0][1]), 6) for line in axes.collections if hasattr(line, "get_segments")
    }
    place = [row + 0.42 - 0.68 * limit for row, high in enumerate((0.5, 0.8, 0.5, 0.5)) for limit in (0.3, high)]
    assert {round(height, 6) for height in place} <= heights
    assert " ".join(axes.get_title(loc="left").split()).endswith(
        "dashed: threshold, dotted: release 0.3, median 3 s, longest gap 1 s, shortest event 3 s"
    )


def test_labels_without_room_are_those_with_the_lowest_peaks() -> None:
    scores = torch.linspace(0.5, 0.9, 30).repeat(2, 1)
    rows = timeline(tagging(scores), max_labels=3)
    assert sorted(rows.labels) == ["label 27", "label 28", "label 29"]
    assert rows.num_left_out == 26
    assert "26 more labels" in plot_timeline(tagging(scores), max_labels=3).axes[0].get_title(loc="left")
    with pytest.raises(ValueError, match="max_labels=0"):
        timeline(tagging(scores), max_labels=0)


def test_no_short_sound_of_a_long_recording_is_lost() -> None:
    scores = torch.zeros(9001, 2)
    scores[4321, 1] = 0.9
    rows = timeline(tagging(scores))
    assert rows.scores.shape == (2, 563)  # 16 windows each
    row = rows.labels.index("label 1")
    column = int(rows.scores[row].argmax())
    assert rows.scores[row, column] == pytest.approx(0.9)
    assert rows.edges_s[column] <= 4321.5 <= rows.edges_s[column + 1]
    assert rows.events[row] == [Event("label 1", 4321.0, 4322.0, pytest.approx(0.9))]


def test_every_column_has_a_pixel() -> None:
    """At 150 dots per inch, as the command draws, also beside names that take a third of the width."""
    result = tagging(torch.zeros(9001, 2))
    result.labels[:] = ["a name of a label that is as long as it may", "short"]
    figure = plot_timeline(result)
    figure.set_dpi(150)
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().width > timeline(result).scores.shape[1]


def test_one_window_and_no_event() -> None:
    axes = plot_timeline(tagging(torch.tensor([[0.2, 0.1]]))).axes[0]
    assert axes.get_title(loc="left").startswith("No event in 1 s")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["label 0", "label 1"]
