"""The measures of sed_eval, psds_eval and sed_scores_eval for the cases in a file; see `sound_events.py`."""

import json
import sys
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import psds_eval
import sed_eval
from sed_scores_eval.base_modules.scores import create_score_dataframe
from sed_scores_eval.intersection_based import psds as exact_psds

SCENARIOS = {
    "psds1": {"dtc": 0.7, "gtc": 0.7, "cttc": 0.3, "alpha_ct": 0.0, "alpha_st": 1.0},
    "psds2": {"dtc": 0.1, "gtc": 0.1, "cttc": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0},
}
# psds_eval takes half a second for each threshold: only short cases with scores of one decimal
MAX_THRESHOLDS, MAX_CELLS = 12, 800


def f1(case: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    """Segment-based and event-based F1 by sed_eval."""
    # Without this setting, a class in which a system finds nothing does not count at all
    empty = {"empty_system_output_handling": "zero_score"}
    segments = sed_eval.sound_event.SegmentBasedMetrics(event_label_list=labels, time_resolution=1.0, **empty)
    events = sed_eval.sound_event.EventBasedMetrics(
        event_label_list=labels, t_collar=0.2, percentage_of_length=0.2, **empty
    )
    for file, duration in enumerate(case["durations_s"]):
        lists = [
            [
                {"filename": f"{file}.wav", "event_label": labels[label], "onset": on, "offset": off}
                for number, label, on, off in case[name]
                if number == file
            ]
            for name in ("reference", "estimated")
        ]
        segments.evaluate(*lists, evaluated_length_seconds=duration)
        events.evaluate(*lists)
    result = {}
    for name, metrics in (("segment", segments), ("event", events)):
        result[f"{name}_micro"] = metrics.results_overall_metrics()["f_measure"]["f_measure"]
        result[f"{name}_macro"] = metrics.results_class_wise_average_metrics()["f_measure"]["f_measure"]
        by_class = metrics.results_class_wise_metrics()
        result[f"{name}_classes"] = [by_class[label]["f_measure"]["f_measure"] for label in labels]
    return result


def edges_of(case: dict[str, Any], file: int) -> np.ndarray:
    """Edges of the cells of a recording, rounded as sed_scores_eval does."""
    count = len(case["scores"][file]) + 1
    return np.round(np.minimum(np.arange(count) * case["cell_s"], case["durations_s"][file]), 6)


def by_sed_scores_eval(case: dict[str, Any], labels: list[str]) -> dict[str, float]:
    """PSDS over all thresholds."""
    scores = {
        str(file): create_score_dataframe(np.array(values), timestamps=edges_of(case, file), event_classes=labels)
        for file, values in enumerate(case["scores"])
    }
    truth = {
        str(file): [(on, off, labels[label]) for number, label, on, off in case["reference"] if number == file]
        for file in range(len(case["scores"]))
    }
    durations = {str(file): duration for file, duration in enumerate(case["durations_s"])}
    result = {}
    for name, settings in SCENARIOS.items():
        value, *_ = exact_psds(
            scores,
            truth,
            durations,
            dtc_threshold=settings["dtc"],
            gtc_threshold=settings["gtc"],
            cttc_threshold=settings["cttc"] if settings["alpha_ct"] else None,
            alpha_ct=settings["alpha_ct"],
            alpha_st=settings["alpha_st"],
            max_efpr=100,
        )
        result[f"{name}@sed_scores_eval"] = float(value)
    return result


def by_psds_eval(case: dict[str, Any], labels: list[str]) -> dict[str, float]:
    """PSDS over the thresholds that there are."""
    thresholds = sorted({value for file in case["scores"] for row in file for value in row})
    if len(thresholds) > MAX_THRESHOLDS or sum(map(len, case["scores"])) > MAX_CELLS:
        return {}
    columns = ["filename", "onset", "offset", "event_label"]
    truth = pd.DataFrame([[f"{f}", on, off, labels[c]] for f, c, on, off in case["reference"]], columns=columns)
    meta = pd.DataFrame([[f"{f}", d] for f, d in enumerate(case["durations_s"])], columns=["filename", "duration"])
    result = {}
    for name, settings in SCENARIOS.items():
        metric = psds_eval.PSDSEval(
            settings["dtc"], settings["gtc"], settings["cttc"], ground_truth=truth, metadata=meta
        )
        for threshold in [-1.0, *thresholds[:-1]]:
            rows = []
            for file, values in enumerate(case["scores"]):
                edges = edges_of(case, file)
                active = np.pad(np.array(values) > threshold, ((1, 1), (0, 0))).astype(int)
                for label in range(case["num_labels"]):
                    steps = np.diff(active[:, label])
                    rows += [
                        [f"{file}", edges[on], edges[off], labels[label]]
                        for on, off in zip((steps == 1).nonzero()[0], (steps == -1).nonzero()[0], strict=True)
                    ]
            metric.add_operating_point(pd.DataFrame(rows, columns=columns))
        value = metric.psds(alpha_ct=settings["alpha_ct"], alpha_st=settings["alpha_st"], max_efpr=100).value
        result[f"{name}@psds_eval"] = float(value)
    return result


def main() -> None:
    """Measure every case: a line with the versions, then one for each."""
    warnings.simplefilter("ignore")
    names = ("sed_eval", "psds_eval", "sed_scores_eval", "numpy", "pandas")
    print(json.dumps({name: version(name) for name in names}), flush=True)
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    for case in cases:
        labels = [f"c{label}" for label in range(case["num_labels"])]
        result = f1(case, labels) | by_sed_scores_eval(case, labels) | by_psds_eval(case, labels)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
