"""What the commands for training data share: their options, and what they report about the data."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ast.choices import TrainingTask

from .errors import note, report
from .files import note_archives

if TYPE_CHECKING:
    from hf_ast.data.labelled import LabelledData
    from hf_ast.training.evaluate import Evaluation
    from hf_ast.training.event_evaluation import EventEvaluation


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder with one subfolder per class, or with annotations beside its recordings; table (.csv, .tsv, "
        ".txt, .json, .jsonl, .parquet) with a column of paths and one of labels, and of times if its rows are "
        "segments; or data set of `datasets`, as a folder or its id on the Hub.",
        show_default=False,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of labels.", show_default="label, labels, category, class, target, ..."),
]
SplitColumn = Annotated[str, typer.Option(metavar="NAME", help="Column of splits: train, validation, test.")]
GroupColumn = Annotated[
    str, typer.Option(metavar="NAME", help="Column of groups, such as speakers; a group stays in one split.")
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Separator of several labels in one text; '' if each text is one label.",
        show_default="that of the format, else a semicolon",
    ),
]
MissingLabel = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Text that stands for no label, such as nan; '' if there is none."),
]
LabelCsv = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Table with the names of ids.",
        show_default="class_labels_indices.csv beside DATA, if it is there",
    ),
]
LabelLevel = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="NUMBER",
        help="Which folder in the path of a recording is its class, counted from 1.",
        show_default="the only one",
    ),
]
WholeFiles = Annotated[
    bool,
    typer.Option("--whole-files", help="Rows are whole recordings, although the table has columns of times."),
]
MultiLabel = Annotated[
    bool,
    typer.Option(
        "--multi-label", help="A recording may have any number of classes, even if none has several in these data."
    ),
]
AudioFolder = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Where relative paths start.", show_default="the folder of the manifest"),
]
Subset = Annotated[
    str | None, typer.Option(metavar="NAME", help="Subset of a data set.", show_default="the default one")
]
HeadersOnly = Annotated[
    bool,
    typer.Option("--headers-only", help="Check only the headers of the recordings in advance, for very large data."),
]
BFloat16 = Annotated[bool, typer.Option("--bf16", help="The same as --dtype bfloat16.")]
GradientAccumulation = Annotated[int, typer.Option(min=1, help="Forward passes per step.")]
ReportTo = Annotated[
    str, typer.Option(metavar="NAME", help="Where to report: tensorboard, wandb, or any other integration of Trainer.")
]
PushToHub = Annotated[
    str | None,
    typer.Option(metavar="OWNER/NAME", help="Repository on the Hub for the result.", show_default="none"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last state saved in --out.")]
NumWorkers = Annotated[int, typer.Option(min=0, help="Processes that read audio.")]


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """How labelled recordings are found."""

    label_column: LabelColumn = None
    split_column: SplitColumn = "split"
    group_column: GroupColumn = "group"
    label_separator: LabelSeparator = None
    missing_label: MissingLabel = None
    label_csv: LabelCsv = None
    label_level: LabelLevel = None
    multi_label: MultiLabel = False
    audio_folder: AudioFolder = None
    whole_files: WholeFiles = False
    subset: Subset = None

    def read(self, source: str, task: TrainingTask = "clips", **settings: Any) -> "LabelledData":
        """Find and check recordings, and report on stderr what was found and what was skipped."""
        from hf_ast.training.extras import expect_train

        expect_train()
        from hf_ast.data.labelled import read_data
        from hf_ast.data.strong_labels import StronglyLabelledData, read_events

        own = {field.name: getattr(self, field.name) for field in fields(self)}
        own["label_names"] = own.pop("label_csv")
        read = read_events if task == "events" else read_data
        data: LabelledData = read(source, progress=sys.stderr.isatty(), **own, **settings)
        if is_main_process():
            note_archives(data.source.archives(), source)
            for line in describe(data):
                note(line)
            if isinstance(data, StronglyLabelledData):
                for line in data.describe_events():
                    note(line)
        return data


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Send the logs that `Trainer` prints to stderr, and say how to resume an interrupted run."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        if any((out / "checkpoints").glob("checkpoint-*/complete")):
            raise KeyboardInterrupt("; --resume continues from the last saved state") from None
        raise


def is_main_process() -> bool:
    """Whether this is the only process, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


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
    yield from data.describe_skipped()


def report_failed(evaluation: "Evaluation | EventEvaluation") -> bool:
    """Report the recordings that could not be scored on stderr, and return whether there are any."""
    for name, reason in evaluation.failed.items():
        report(f"{name}: {reason}")
    return bool(evaluation.failed)


def as_lines(evaluation: "Evaluation | EventEvaluation") -> Iterator[str]:
    """Format the metrics as a table, with what they should beat, and what makes them uncertain."""
    found = evaluation.baselines
    others = {} if found is None else {"linear baseline": found.linear or {}, "largest class": found.largest_class}
    yield f"{len(evaluation.names)} recordings"
    for name, value in evaluation.metrics.values.items():
        error = evaluation.standard_errors.get(name)
        parts = [f"{name:<18} {value:.4f}", " " * 8 if error is None else f"± {error:.4f}"]
        yield "  ".join([*parts, *(f"{title} {of[name]:.4f}" for title, of in others.items() if name in of)]).rstrip()
    yield from evaluation.remarks
