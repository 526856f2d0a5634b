"""Events from the scores of windows."""

import pytest
import torch

from hf_ast.inference.events import Event, find_events


def side_by_side(*scores: float) -> list[tuple[float, float, float]]:
    times = torch.tensor([[float(index), index + 1.0] for index in range(len(scores))])
    return [event[1:] for event in find_events(torch.tensor(scores)[:, None], times, ["a"])]


def test_hysteresis_joins_neighbouring_windows() -> None:
    assert side_by_side(0.1, 0.6, 0.3, 0.7, 0.1) == [(1.0, 4.0, pytest.approx(0.7))]
    assert side_by_side(0.6, 0.3, 0.1, 0.3) == [(0.0, 2.0, pytest.approx(0.6))]
    assert side_by_side(0.6, 0.2, 0.5) == [(0.0, 1.0, pytest.approx(0.6)), (2.0, 3.0, 0.5)]
    assert side_by_side(0.4, 0.4, 0.4) == []
    assert side_by_side(0.9) == [(0.0, 1.0, pytest.approx(0.9))]


@pytest.mark.parametrize(("onset_s", "duration_s"), [(20.0, 1.0), (13.3, 2.0), (21.0, 7.0), (5.5, 30.0)])
def test_overlapping_windows_locate_a_sound(onset_s: float, duration_s: float) -> None:
    """A window of 10 s hears a sound of which it holds at least a half, or 5 s."""
    starts = torch.arange(0, 50.1, 0.5, dtype=torch.float64)
    times = torch.stack((starts, starts + 10), dim=1)
    heard = (times[:, 1].clamp(max=onset_s + duration_s) - times[:, 0].clamp(min=onset_s)).clamp(min=0)
    scores = (heard >= min(duration_s / 2, 5.0)).float()[:, None]
    (event,) = find_events(scores, times, ["a"])
    assert (event.start_s + event.end_s) / 2 == pytest.approx(onset_s + duration_s / 2, abs=0.5)  # a hop
    error_s = 10 / 6 if duration_s >= 10 else 10 / 3  # as documented
    assert event.start_s == pytest.approx(onset_s, abs=error_s + 0.5)
    assert event.end_s == pytest.approx(onset_s + duration_s, abs=error_s + 0.5)


def test_what_few_of_the_covering_windows_hear_is_no_event() -> None:
    starts = torch.arange(0, 8, 0.25, dtype=torch.float64)
    times = torch.stack((starts, starts + 2), dim=1)
    scores = torch.zeros(len(starts), 1)
    scores[10:12] = 0.9  # two of the eight windows that cover a moment
    assert find_events(scores, times, ["a"]) == []


def test_the_ends_of_the_recording() -> None:
    times = torch.tensor([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0], [2.5, 4.5]])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.0], [0.9, 0.0], [0.9, 0.8]])
    assert find_events(scores, times, ["a", "b"]) == [
        Event("a", 0.0, 1.0, pytest.approx(0.9)),
        Event("a", 2.5, 4.5, pytest.approx(0.9)),
        Event("b", 3.5, 4.5, pytest.approx(0.8)),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"threshold": 0.0}, "threshold=0.0"), ({"threshold": 1.5}, "threshold=1.5"), ({"release": 0.6}, "release=0.6")],
)
def test_thresholds_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_events(torch.zeros(1, 1), torch.tensor([[0.0, 1.0]]), ["a"], **settings)
