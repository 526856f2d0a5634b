"""What commands for labelled recordings share: their options, and what they say about the data."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import note

if TYPE_CHECKING:
    from hf_ast.training.data import LabelledData
    from hf_ast.training.evaluate import Evaluation

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder with one subfolder per class; manifest (.csv, .tsv, .json, .jsonl, .parquet) with a column of "
        "paths and one of labels; or data set of `datasets`, as a folder or its id on the Hub.",
        show_default=False,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of labels.", show_default="label, labels, category, class or target"),
]
SplitColumn = Annotated[str, typer.Option(metavar="NAME", help="Column of splits: train, validation, test.")]
GroupColumn = Annotated[
    str, typer.Option(metavar="NAME", help="Column of groups, such as speakers; a group stays in one split.")
]
LabelSeparator = Annotated[str, typer.Option(metavar="TEXT", help="What stands between several labels in one text.")]
MultiLabel = Annotated[
    bool,
    typer.Option(
        "--multi-label", help="A recording may have any number of classes, even if none has several in these data."
    ),
]
AudioFolder = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="What relative paths count from.", show_default="the folder of the manifest"),
]
Subset = Annotated[
    str | None, typer.Option(metavar="NAME", help="Subset of a data set.", show_default="the default one")
]
HeadersOnly = Annotated[
    bool,
    typer.Option("--headers-only", help="Check only the headers of the recordings at first, for very large data."),
]
# How many names of skipped files are shown
MAX_NAMES = 10


def read_labelled(source: str, **settings: Any) -> "LabelledData":
    """Find and check recordings, and tell on stderr what there is and what was skipped."""
    from hf_ast.training.data import read_data

    data = read_data(source, progress=sys.stderr.isatty(), **settings)
    if os.environ.get("RANK", "0") == "0":  # the first of several processes
        for line in describe(data):
            note(line)
    return data


def describe(data: "LabelledData") -> Iterator[str]:
    """Say how many recordings each class and split has, and what was skipped, as lines of text."""
    counts = data.counts()
    splits = list(next(iter(counts.values())))
    width = max(len("class"), *map(len, counts))
    total_s = sum(clip.duration_s for clip in data.clips)
    kind = "multi-label" if data.multi_label else "single-label"
    yield f"{len(data.clips)} recordings ({total_s / 3600:.3g} h), {len(data.labels)} classes, {kind}"
    yield "  ".join([f"{'class':<{width}}", *(f"{split:>10}" for split in splits)])
    for label, numbers in counts.items():
        yield "  ".join([f"{label:<{width}}", *(f"{numbers[split]:>10}" for split in splits)])
    if data.skipped:
        yield f"skipped: {len(data.skipped)} files"
        for name, reason in list(data.skipped.items())[:MAX_NAMES]:
            yield f"  {name}: {reason}"
        if len(data.skipped) > MAX_NAMES:
            yield f"  and {len(data.skipped) - MAX_NAMES} others"


def as_lines(evaluation: "Evaluation") -> Iterator[str]:
    """Format the metrics as a table."""
    yield f"{len(evaluation.names)} recordings"
    for name, value in evaluation.metrics.values.items():
        yield f"{name:<18} {value:.4f}"
