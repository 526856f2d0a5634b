"""`hf-ast tag`."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import for_each
from .event_formats import LAYOUTS, Format, document
from .files import Recordings, expand_arguments
from .options import DEFAULT_MODEL, BatchOptions, Hop, Json, Model, Window, with_options
from .output import show

if TYPE_CHECKING:
    from hf_ast import Event

    Events = tuple[float, Sequence[Event]]


@with_options
def tag(
    files: Recordings,
    options: BatchOptions,
    model: Model = DEFAULT_MODEL,
    file_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="Format of the events: `audacity` is a label track that Audacity imports, `srt` are subtitles; both "
            "hold one recording, so use --out for several.",
        ),
    ] = Format.TABLE,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder in which to write one file per recording, instead of printing."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="SCORE", min=0, max=1, help="Score of a label that begins an event.")
    ] = 0.5,
    window: Window = None,
    hop: Hop = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Only the labels with the largest scores in the recording.", show_default="all"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find when something is heard in recordings.

    An event lasts as long as the score of a label stays high in consecutive windows; `peak` is the largest score in
    it. Short windows with a small hop give more exact times, for example `--window 1 --hop 0.5`. The events of a
    recording are printed as soon as it is finished; with `--out`, the path of the file that holds them.

    With `--json`, which is the same as `--format json`, the result is an array with one object per recording: `file`,
    `duration_s`, and `events`, each with `label`, `start_s`, `end_s` and `peak`; a recording that cannot be tagged has
    `file` and `error`. CSV has a line per event with the columns `file`, `start_s`, `end_s`, `label` and `peak`.
    """
    file_format = Format.JSON if as_json else file_format
    layout = LAYOUTS[file_format]
    found = expand_arguments(files)
    if len(found.files) > 1 and layout.one_recording and out is None:
        raise typer.BadParameter(
            f"{file_format} holds the events of one recording, but there are {len(found.files)}; give a folder as "
            "--out.",
            param_hint="--format",
        )
    targets = {} if out is None else output_files(found.files, out, layout.suffix)
    settings = {"window_s": window, "hop_s": hop, "threshold": threshold}
    if out is None:
        with document(file_format) as written:
            for failure in found.failures:
                written.fail(failure)
            if found.files:
                events_of = _tagger(options, model, top_k, settings)
                for_each(
                    found.files,
                    lambda file: written(file, *events_of(file)),
                    lambda file, error: written.fail(found.fail(file, error)),
                )
    elif found.files:
        events_of = _tagger(options, model, top_k, settings)
        for_each(found.files, lambda file: _write(file, events_of, targets[file], file_format), found.fail)
    if found.failures:
        raise typer.Exit(1)


def _tagger(
    options: BatchOptions, model: str, top_k: int | None, settings: Mapping[str, Any]
) -> "Callable[[str], Events]":
    """Load a model, and return a function that gives the length of a recording in seconds and its events."""
    import hf_ast

    classifier, feature_extractor = options.classifier(model)

    def events_of(file: str) -> "Events":
        tagging = hf_ast.tag(
            classifier,
            feature_extractor,
            file,
            **settings,
            batch_size=options.batch_size,
            progress=sys.stderr.isatty(),
        )
        kept = {label for label, _ in tagging.top(top_k or len(tagging.labels))}
        return tagging.duration_s, [event for event in tagging.events if event.label in kept]

    return events_of


def _write(file: str, events_of: "Callable[[str], Events]", target: Path, file_format: Format) -> None:
    """Write the events of a recording into a file of its own, and print its path."""
    duration_s, events = events_of(file)
    with target.open("x", encoding="utf-8") as stream, document(file_format, stream) as written:
        written(file, duration_s, events)
    show(str(target))


def output_files(files: Sequence[str], folder: Path, suffix: str) -> dict[str, Path]:
    """Choose a file in the folder for each recording, with the same name and another suffix.

    Raises:
        BadParameter: Two recordings have the same file, or it exists.
    """
    targets = {file: folder / f"{Path(file).stem}{suffix}" for file in files}
    twice = [str(target) for target, number in Counter(targets.values()).items() if number > 1]
    if twice:
        raise typer.BadParameter(
            f"several recordings would be written to {', '.join(twice)}; tag them one after the other.",
            param_hint="--out",
        )
    if existing := [str(target) for target in targets.values() if target.exists()]:
        raise typer.BadParameter(f"it already holds {', '.join(existing)}; give another folder.", param_hint="--out")
    folder.mkdir(parents=True, exist_ok=True)
    return targets
