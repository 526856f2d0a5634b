"""Rows, scores and events of timelines."""

import numpy as np
import pytest
import torch

from hf_ast.inference.events import Event, find_events
from hf_ast.inference.tagging import Tagging
from hf_ast.plotting import plot_timeline, timeline


def tagging(scores: torch.Tensor, hop_s: float = 1.0, window_s: float = 1.0, threshold: float = 0.5) -> Tagging:
    starts = hop_s * torch.arange(len(scores), dtype=torch.float64)
    times_s = torch.stack((starts, starts + window_s), dim=1)
    labels = [f"label {index}" for index in range(scores.shape[1])]
    events = find_events(scores, times_s, labels, threshold=threshold)
    return Tagging(labels, scores, times_s, scores.mean(0), events, times_s[-1, 1].item())


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
    assert axes.get_title(loc="left") == "3 events (bars) of 2 labels in 3 s, and scores of windows"


def test_overlapping_windows_are_drawn_around_their_centres() -> None:
    rows = timeline(tagging(torch.zeros(3, 2), hop_s=0.5, window_s=2.0))
    assert rows.edges_s.tolist() == [0, 1.25, 1.75, 3]


def test_labels_without_room_are_those_with_the_lowest_peaks() -> None:
    scores = torch.linspace(0.5, 0.9, 30).repeat(2, 1)
    rows = timeline(tagging(scores), max_labels=3)
    assert sorted(rows.labels) == ["label 27", "label 28", "label 29"]
    assert rows.num_left_out == 27
    assert "27 more labels" in plot_timeline(tagging(scores), max_labels=3).axes[0].get_title(loc="left")
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
