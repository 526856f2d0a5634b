"""Events from the scores of windows."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from hf_ast.inference.events import Event, find_events
from hf_ast.inference.windows import covering_starts


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


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40000),
    st.integers(1, 9000),
    st.floats(0.05, 1),
    st.sampled_from([8000, 11025, 16000, 32000, 44100]),
    st.integers(0, 9),
)
def test_events_of_any_windows_lie_in_the_recording(
    num_samples: int, window: int, overlap: float, rate: int, seed: int
) -> None:
    starts = torch.tensor(covering_starts(num_samples, window, max(1, round(overlap * window))), dtype=torch.float64)
    times = torch.stack((starts, starts + min(window, num_samples)), dim=1) / rate
    scores = torch.rand(len(times), 3, generator=torch.Generator().manual_seed(seed))
    for event in find_events(scores, times, ["a", "b", "c"]):
        assert 0 <= event.start_s < event.end_s <= num_samples / rate + 1e-9
        assert 0.5 <= event.peak <= 1
    # What every window hears lasts as long as the recording
    assert find_events(torch.ones(len(times), 1), times, ["a"]) == [
        Event("a", 0.0, pytest.approx(num_samples / rate, abs=1e-9), 1.0)
    ]
