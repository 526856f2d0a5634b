"""Draw the costs and the curve of token merging that `bench` or `bench_gpu` wrote as JSON.

python -m tests.benchmarks.figure FILE [--out FILE.svg]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from hf_ast.models.configuration_common import SIZES

Rows = list[dict[str, Any]]


def line(size: str, precision: str) -> dict[str, str]:
    """A colour and a marker for each size; dashes for half precision."""
    index = list(SIZES).index(size)
    return {"color": f"C{index}", "marker": "os^"[index], "linestyle": "-" if precision == "float32" else "--"}


def draw_lengths(axes: Axes, rows: Rows) -> None:
    """Time per clip against its length, one line for each size and precision."""
    for (size, precision), group in grouped(rows, "size", "precision").items():
        points = sorted((row["frames"] / 100, row["ms per clip"]) for row in group if row["batch"] == 1)
        axes.plot(*zip(*points, strict=True), label=f"{size}, {precision}", **line(size, precision))
    axes.set(xlabel="length of the clip in s", ylabel="ms per clip", title="One clip", yscale="log", ylim=(5, None))
    axes.legend(loc="lower right")


def draw_batches(axes: Axes, rows: Rows) -> None:
    """Time per clip against the batch, for the longest clips."""
    longest = max(row["frames"] for row in rows)
    for (size, precision), group in grouped(rows, "size", "precision").items():
        points = sorted((row["batch"], row["ms per clip"]) for row in group if row["frames"] == longest)
        axes.plot(*zip(*points, strict=True), **line(size, precision))
    title = f"Batches of clips of {longest / 100:g} s"
    axes.set(xlabel="clips in the batch", ylabel="ms per clip", title=title, yscale="log", ylim=(5, None))
    axes.set_xticks(sorted({row["batch"] for row in rows}))


def draw_merging(axes: Axes, rows: Rows) -> None:
    """Accuracy of the keyword model, and speed of the other one, against the token-layers that are left."""
    accuracy = sorted((row["token-layers"], 100 * row["accuracy"]) for row in rows if "accuracy" in row)
    speed = sorted((row["token-layers"], row["ratio"]) for row in rows if "ratio" in row)
    axes.plot(*zip(*accuracy, strict=True), marker="o", color="C0")
    axes.set(xlabel="tokens of all layers, share that is left", title="Token merging")
    axes.set_ylabel("accuracy on keywords, %", color="C0")
    other = axes.twinx()
    other.plot(*zip(*speed, strict=True), marker="s", color="C1")
    other.set_ylabel("speed against all tokens", color="C1")


def grouped(rows: Rows, *names: str) -> dict[tuple[str, ...], Rows]:
    """Rows by their values of some columns, in the order of the rows."""
    groups: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def main() -> None:
    """Draw what the file has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON of `bench` or `bench_gpu`")
    parser.add_argument("--out", type=Path, help="figure; by default beside the file, as SVG")
    options = parser.parse_args()
    rows: Rows = json.loads(options.file.read_text())["rows"]
    costs, merging = ([row for row in rows if row["part"] == part] for part in ("costs", "merging"))
    drawings = [(draw_lengths, costs), (draw_batches, costs)] if costs else []
    drawings += [(draw_merging, merging)] if merging else []
    if not drawings:
        raise SystemExit(f"{options.file} has neither costs nor token merging.")
    figure, axes = plt.subplots(1, len(drawings), figsize=(5 * len(drawings), 4), squeeze=False, layout="constrained")
    for (draw, part), place in zip(drawings, axes[0], strict=True):
        draw(place, part)
    figure.savefig(options.out or options.file.with_suffix(".svg"))


if __name__ == "__main__":
    main()
