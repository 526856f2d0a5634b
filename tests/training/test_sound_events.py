"""Measures of sound events: what sed_eval, psds_eval and sed_scores_eval say about recorded cases, and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_ast.training.psds import PSDS1, Scenario, Timeline, detections, psds
from hf_ast.training.sound_events import SoundEvents, event_f1, segment_f1
from tests.benchmarks.sound_events import TOLERANCE, measure

# By `python -m tests.benchmarks.sound_events --oracle PYTHON --record ...`, which names the versions
RECORDED = json.loads(Path(__file__).with_name("sound_events.json").read_text())


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: f"{len(case['reference'])}-events")
def test_measures_are_those_of_the_published_tools(case: dict[str, Any]) -> None:
    assert RECORDED["versions"].keys() >= {"sed_eval", "psds_eval", "sed_scores_eval"}
    ours = measure(case)
    assert case["expected"]
    for name, expected in case["expected"].items():
        np.testing.assert_allclose(ours[name.partition("@")[0]], expected, atol=TOLERANCE, rtol=0, err_msg=name)


def events(*rows: tuple[int, int, float, float]) -> SoundEvents:
    return SoundEvents.of(list(rows))


def test_events_match_within_their_tolerances_once_each() -> None:
    reference = events((0, 0, 1.0, 2.0), (0, 0, 5.0, 10.0), (1, 0, 1.0, 2.0), (0, 1, 3.0, 3.5))
    estimated = events(
        (0, 0, 1.2, 1.8),  # both at the limit of 200 ms, which counts
        (0, 0, 0.9, 2.1),  # the same reference again
        (0, 0, 5.1, 9.0),  # the end within a fifth of five seconds
        (1, 0, 1.21, 2.0),  # too late
        (1, 1, 3.0, 3.5),  # in another recording
    )
    f1 = event_f1(reference, estimated, 3)
    np.testing.assert_allclose(f1.per_class, [2 * 2 / (3 + 4), 0.0, np.nan])
    assert f1.macro == pytest.approx(2 / 7)
    assert f1.micro == pytest.approx(2 * 2 / (4 + 5))
    assert (f1.precision, f1.recall) == (pytest.approx(2 / 5), pytest.approx(2 / 4))


def test_a_matching_is_as_large_as_it_can_be() -> None:
    """The first estimate fits both references, the second only the first one."""
    reference = events((0, 0, 1.0, 2.0), (0, 0, 1.3, 2.3))
    estimated = events((0, 0, 1.15, 2.15), (0, 0, 0.85, 1.85))
    assert event_f1(reference, estimated, 1).micro == 1.0


def test_a_segment_has_the_classes_that_reach_into_it() -> None:
    reference = events((0, 0, 0.9, 2.1), (1, 1, 0.0, 0.5))
    estimated = events((0, 0, 2.0, 9.0), (1, 1, 0.4, 0.6))
    f1 = segment_f1(reference, estimated, 2, np.array([4.5, 1.0]))
    # Of class 0: reference 0, 1, 2; estimated 2, 3, 4 (the rest lies beyond the recording)
    np.testing.assert_allclose(f1.per_class, [2 / 6, 1.0])
    assert f1.micro == pytest.approx(2 * 2 / 8)


def test_without_events_there_is_nothing_to_measure() -> None:
    none = events()
    assert np.isnan(event_f1(none, none, 2).macro)
    assert np.isnan(event_f1(none, none, 2).micro)
    false = event_f1(none, events((0, 0, 1.0, 2.0)), 2)
    assert np.isnan(false.macro)
    assert false.micro == 0.0
    timeline = Timeline([np.zeros((3, 2))], [np.arange(4.0)], none, np.array([3.0]))
    assert np.isnan(psds(timeline, PSDS1).value)


def test_every_run_above_some_threshold_is_a_detection() -> None:
    scores = np.array([1.0, 3.0, 2.0, 3.0, 0.0, -np.inf, 2.0, 2.0, -np.inf])
    first, end, own, parent = detections(scores, 5)
    found = sorted(zip(first.tolist(), end.tolist(), own.tolist(), parent.tolist(), strict=True))
    assert found == [
        (0, 4, 1.0, 0.0),
        (0, 5, 0.0, -np.inf),
        (1, 2, 3.0, 2.0),
        (1, 4, 2.0, 1.0),
        (3, 4, 3.0, 2.0),
        (6, 8, 2.0, -np.inf),
    ]


def score(column: list[float], reference: SoundEvents, **changes: float) -> float:
    """PSDS of one class in a recording of an hour, in cells of 6 minutes."""
    scores, edges = np.array(column)[:, None], np.linspace(0, 3600, len(column) + 1)
    scenario = Scenario(0.5, 0.5, max_rate=10.0)._replace(**changes)
    return psds(Timeline([scores], [edges], reference, np.array([3600.0])), scenario).value


def test_the_score_is_the_area_under_the_curve() -> None:
    reference = events((0, 0, 0.0, 360.0), (0, 0, 1800.0, 2160.0))
    # One event is found first; then a false detection in cell 2; then the other event
    column = [0.9, 0.0, 0.8, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0, 0.0]
    assert score(column, reference) == pytest.approx((0.5 * 1 + 1.0 * 9) / 10)
    assert score(column, reference, max_rate=1.0) == pytest.approx(0.5)


def test_a_share_of_exactly_the_tolerance_meets_it() -> None:
    reference = events((0, 0, 0.1, 0.4))
    scores, edges = np.array([[0.9], [0.0]]), np.array([0.1, 0.31, 1.0])  # 0.21 of 0.3 s
    timeline = Timeline([scores], [edges], reference, np.array([1.0]))
    assert psds(timeline, Scenario(0.7, 0.7)).value == 1.0


def test_overlapping_references_of_one_class_are_one() -> None:
    apart, together = events((0, 0, 0.0, 720.0), (0, 0, 360.0, 1080.0)), events((0, 0, 0.0, 1080.0))
    column = [0.9, 0.9, 0.2, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert score(column, apart) == score(column, together) > 0


def test_scores_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"scores\[0\] has shape \(3, 1\), which does not fit 3 edges"):
        Timeline([np.zeros((3, 1))], [np.arange(3.0)], events(), np.array([3.0]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        Timeline([np.full((3, 1), np.nan)], [np.arange(4.0)], events(), np.array([3.0]))
