"""Our measures of sound events against sed_eval, psds_eval and sed_scores_eval, on generated cases.

    python -m tests.benchmarks.sound_events --oracle PYTHON [--cases 200] [--record FILE]

PYTHON is that of an environment with these three packages, numpy 1 and pandas 1, which does not run ours: psds_eval
and sed_scores_eval fail with pandas 3. There, `sound_events_oracle.py` runs. The largest difference of each measure is
printed; `--record` writes the first small cases with the oracle's numbers, for `tests/training/test_sound_events.py`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hf_ast.training.psds import PSDS1, PSDS2, Timeline, psds
from hf_ast.training.sound_events import SoundEvents, event_f1, segment_f1

ORACLE = Path(__file__).with_name("sound_events_oracle.py")
# Equal counts give equal numbers, but for the order of sums, and the 2e-16 that sed_eval adds to denominators
TOLERANCE = 1e-9


def make_case(seed: int) -> dict[str, Any]:
    """Make reference events, estimated ones, and scores; times have whole microseconds."""
    rng = np.random.default_rng(seed)
    num_files, num_labels = int(rng.integers(2, 9)), int(rng.integers(2, 5))
    durations = [round(float(rng.uniform(5, 40)), 6) for _ in range(num_files)]
    cell_s, quality = float(rng.choice([0.04, 0.1, 0.25])), float(rng.uniform(0.4, 2.5))
    reference: list[list[Any]] = []
    scores = []
    for file, duration in enumerate(durations):
        edges = np.minimum(np.arange(int(np.ceil(duration / cell_s)) + 1) * cell_s, duration)
        truth = np.zeros((len(edges) - 1, num_labels))
        for label in range(num_labels):
            time = float(rng.exponential(3))
            while (end := time + float(rng.uniform(0.1, 4))) < duration and rng.random() < 0.8:
                # Half of the events begin and end where cells do, so that shares meet the tolerances exactly
                grid = rng.random() < 0.5
                on, off = (round(round(t / cell_s) * cell_s, 6) if grid else round(t, 6) for t in (time, end))
                if on < off:
                    reference.append([file, label, on, off])
                    truth[(edges[1:] > on) & (edges[:-1] < off), label] = 1
                time = end + float(rng.exponential(2)) + cell_s
        # As of a good or a bad model, so that the curves lie anywhere
        noise = np.stack([np.convolve(rng.normal(size=len(truth)), np.ones(9) / 3, "same") for _ in range(num_labels)])
        levels = 1 / (1 + np.exp(-(5 * truth - 2.5 + quality * noise.T + 0.3 * rng.normal(size=truth.shape))))
        scores.append(np.round(levels, 1 if seed % 2 else 6).tolist())
    for label in range(num_labels):  # each class has a reference
        if all(row[1] != label for row in reference):
            reference.append([0, label, 0.5, 2.0])
    estimated = []
    for file, label, on, off in reference:
        if rng.random() < 0.8:
            shifts = np.round(rng.choice([-0.3, -0.2, -0.1, 0.0, 0.15, 0.2, 0.25], 2), 6) * (rng.random() < 0.9)
            start = max(0.0, round(on + shifts[0], 6))
            estimated.append([file, label, start, max(start + 0.01, round(off + shifts[1], 6))])
        if rng.random() < 0.3:
            start = round(float(rng.uniform(0, durations[file] - 1)), 6)
            estimated.append([file, int(rng.integers(num_labels)), start, round(start + 0.7, 6)])
    return {
        "durations_s": durations,
        "cell_s": cell_s,
        "num_labels": num_labels,
        "reference": reference,
        "estimated": estimated,
        "scores": scores,
    }


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Compute all measures of a case."""
    durations = np.array(case["durations_s"])
    reference, estimated = (SoundEvents.of([tuple(row) for row in case[name]]) for name in ("reference", "estimated"))
    scores = [np.array(values) for values in case["scores"]]
    edges = [
        np.minimum(np.arange(len(values) + 1) * case["cell_s"], duration)
        for values, duration in zip(scores, durations, strict=True)
    ]
    timeline = Timeline(scores, edges, reference, durations)
    result: dict[str, Any] = {}
    for name, f1 in (
        ("segment", segment_f1(reference, estimated, case["num_labels"], durations)),
        ("event", event_f1(reference, estimated, case["num_labels"])),
    ):
        result |= {f"{name}_micro": f1.micro, f"{name}_macro": f1.macro, f"{name}_classes": f1.per_class.tolist()}
    return result | {name: psds(timeline, scenario).value for name, scenario in (("psds1", PSDS1), ("psds2", PSDS2))}


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracle", required=True, help="Python with sed_eval, psds_eval and sed_scores_eval")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--record", type=Path, help="where to write the first six small cases")
    arguments = parser.parse_args()
    cases = [make_case(seed) for seed in range(arguments.cases)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "cases.json")
        place.write_text(json.dumps(cases))
        command = [arguments.oracle, str(ORACLE), str(place)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as oracle:
            assert oracle.stdout is not None
            versions, *expected = map(json.loads, oracle.stdout)
    if len(expected) < len(cases):
        print(f"the oracle ended after {len(expected)} of {len(cases)} cases")
    largest: dict[str, float] = {}
    compared: dict[str, int] = {}
    for case, of_case in zip(cases, expected, strict=False):
        ours = measure(case)
        for name, value in of_case.items():
            difference = np.nan_to_num(np.abs(np.subtract(ours[name.partition("@")[0]], value)), nan=np.inf).max()
            largest[name] = max(largest.get(name, 0.0), float(difference))
            compared[name] = compared.get(name, 0) + 1
    print("against", ", ".join(f"{name} {version}" for name, version in versions.items()))
    for name, difference in largest.items():
        print(f"{name:<28} {compared[name]:>4} cases, largest difference {difference:.2e}")
    if arguments.record:
        small = [number for number, case in enumerate(cases[: len(expected)]) if sum(map(len, case["scores"])) < 250][
            :6
        ]
        record = [cases[number] | {"expected": expected[number]} for number in small]
        arguments.record.write_text(json.dumps({"versions": versions, "cases": record}) + "\n")
    sys.exit(len(expected) < len(cases) or any(difference > TOLERANCE for difference in largest.values()))


if __name__ == "__main__":
    main()
