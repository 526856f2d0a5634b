"""Fair comparisons on a machine whose speed drifts: all sides in turn, many times, medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

# numpy's and torch's worker threads spin for a while after their last work, and would slow down the other side
PAUSE_S = 0.1
# Shorter runs are repeated for as long: a processor needs a few milliseconds to wake up
SHORTEST_S = 0.05


def interleaved_medians(sides: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """Median duration of each side in seconds: A B B A ... in one run, each time after a pause and a warm-up."""
    durations: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(repetitions):
        for name, run in list(sides.items())[:: 1 if repetition % 2 else -1]:
            time.sleep(PAUSE_S)
            run()
            durations[name].append(_duration(run))
    return {name: statistics.median(values) for name, values in durations.items()}


def _duration(run: Callable[[], Any]) -> float:
    """Seconds of one run, as the mean of as many as `SHORTEST_S` holds."""
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < SHORTEST_S:
        run()
        count += 1
    return (time.perf_counter() - start) / count


def report(title: str, medians: Mapping[str, float], target: float) -> float:
    """Print how many times as fast the first side is as the second one; returns that ratio."""
    (ours, our_s), (theirs, their_s) = medians.items()
    ratio = their_s / our_s
    print(
        f"{title:<44} {ours} {1000 * our_s:8.1f} ms   {theirs} {1000 * their_s:8.1f} ms   "
        f"ratio {ratio:5.2f}x (target {target}x)",
        flush=True,
    )
    return ratio


def compared(what: str, sides: Mapping[str, Callable[[], Any]], repetitions: int, target: float) -> dict[str, Any]:
    """A row with the medians of two sides in ms, and how many times as fast the first one is as the second one."""
    (ours, our_s), (theirs, their_s) = interleaved_medians(sides, repetitions).items()
    return {
        "what": what,
        f"{ours} ms": 1000 * our_s,
        f"{theirs} ms": 1000 * their_s,
        "ratio": their_s / our_s,
        "target": target,
    }
