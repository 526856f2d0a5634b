"""`hf-ast tag`."""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from hf_ast.inference.event_formats import Heard

from .errors import for_each, note
from .event_formats import LAYOUTS, Format, document
from .files import Recordings, expand_arguments
from .options import DEFAULT_MODEL, EventOptions, Json, Model, with_options
from .output import show


@with_options
def tag(
    files: Recordings,
    options: EventOptions,
    model: Model = DEFAULT_MODEL,
    file_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="Format of the events: `csv`, `json`; `dcase` is the table of DCASE and DESED, `raven` a selection "
            "table, `audacity` a label track, `srt` are subtitles. The last three hold one recording, so use --out "
            "for several.",
        ),
    ] = Format.TABLE,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder in which to write one file per recording, in the same subfolders, instead of printing.",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Only the labels with the largest scores in the recording.", show_default="all"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find when something is heard in recordings.

    A model of frames gives a score per cell of time; with other models, a cell is as long as the hop, and its score
    is the mean over the windows that cover its middle. An event lasts as long as the score of a label is above
    `--release` and counts if it is above `--threshold` somewhere, after the filter of `--median`. Gaps up to `--gap`
    are closed, and then events shorter than `--shortest` dropped, so that events of one label never overlap.

    `peak` is the largest score in an event. Short windows with a small hop give more exact times, for example
    `--window 1 --hop 0.2`. The events of a recording are printed as soon as it is finished; with `--out`, the path of
    the file that holds them.

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
    targets = {} if out is None else output_files(found.files, files, out, layout.suffix)
    if out is None:
        with document(file_format) as written:
            for failure in found.failures:
                written.fail(failure)
            if found.files:
                heard = _tagger(options, model, top_k)
                for_each(
                    found.files,
                    lambda file: written(heard(file)),
                    lambda file, error: written.fail(found.fail(file, error)),
                )
    elif found.files:
        heard = _tagger(options, model, top_k)
        for_each(found.files, lambda file: _write(heard(file), targets[file], file_format), found.fail)
    if found.failures:
        raise typer.Exit(1)


def _tagger(options: EventOptions, model: str, top_k: int | None) -> Callable[[str], Heard]:
    """Load a model, and return a function that tags a recording."""
    import hf_ast
    from hf_ast.inference.tagging import WindowScorer

    settings = options.tagging()
    classifier, feature_extractor = options.classifier(model, frames=True)
    windows = {name: settings[name] for name in ("window_s", "hop_s")}
    note(WindowScorer(classifier, feature_extractor, **windows).describe())

    def heard(file: str) -> Heard:
        tagging = hf_ast.tag(classifier, feature_extractor, file, **settings, progress=sys.stderr.isatty())
        kept = {label for label, _ in tagging.top(top_k or len(tagging.labels))}
        events = [event for event in tagging.events if event.label in kept]
        return Heard(file, tagging.duration_s, events, feature_extractor.sampling_rate / 2)

    return heard


def _write(heard: Heard, target: Path, file_format: Format) -> None:
    """Write the events of a recording into a file of its own, and print its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("x", encoding="utf-8", newline="") as stream, document(file_format, stream) as written:
        written(heard)
    show(str(target))


def output_files(files: Sequence[str], arguments: Sequence[str], folder: Path, suffix: str) -> dict[str, Path]:
    """Choose a file in a folder for each recording: with its name and another suffix.

    Recordings from folders and patterns are in the same subfolders. Those whose names differ only in their suffixes
    keep these; if files would still be the same, all are in subfolders of the deepest folder that holds them.

    Raises:
        BadParameter: A file exists, or several recordings have the same.
    """
    places = {file: _place(file) for file in files}
    roots = [_root(argument) for argument in arguments]
    depths = {
        file: max((len(root) for root in roots if place[: len(root)] == root), default=len(place) - 1)
        for file, place in places.items()
    }
    targets = _named({file: place[depths[file] :] for file, place in places.items()}, folder, suffix)
    if len(set(targets.values())) < len(targets):
        levels = itertools.takewhile(
            lambda names: len(set(names)) == 1, zip(*(p[:-1] for p in places.values()), strict=False)
        )
        shared = len(list(levels))
        targets = _named({file: place[shared:] for file, place in places.items()}, folder, suffix)
    twice = [str(target) for target, number in Counter(targets.values()).items() if number > 1]
    if twice:
        raise typer.BadParameter(f"several recordings would be written to {', '.join(twice)}.", param_hint="--out")
    if existing := [str(target) for target in targets.values() if target.exists()]:
        raise typer.BadParameter(f"it already holds {', '.join(existing)}; give another folder.", param_hint="--out")
    folder.mkdir(parents=True, exist_ok=True)
    return targets


def _named(places: dict[str, tuple[str, ...]], folder: Path, suffix: str) -> dict[str, Path]:
    """Give each place another suffix, instead of its own unless that is needed to tell places apart."""
    stems = {file: PurePosixPath(*place).with_suffix("") for file, place in places.items()}
    number = Counter(stems.values())
    return {
        file: folder / stem.with_name((stem.name if number[stem] == 1 else places[file][-1]) + suffix)
        for file, stem in stems.items()
    }


def _root(argument: str) -> tuple[str, ...]:
    """Folder whose subfolders an argument keeps: itself, or the one of a file or before the first wildcard."""
    place = _place(argument)
    if os.path.isdir(argument):
        return place
    if os.path.lexists(argument):
        return place[:-1]
    fixed = itertools.takewhile(lambda name: not set("*?[") & set(name), place[:-1])
    return tuple(fixed)


def _place(file: str) -> tuple[str, ...]:
    """Drive or host, folders and name of a path or URL; none of them leads out of a folder."""
    if file.startswith(("http://", "https://")):
        url = urlsplit(file)
        parts = [url.netloc, *unquote(url.path).split("/")]
    else:
        root, *parts = Path(os.path.abspath(file)).parts
        parts = [root.strip(":/\\"), *parts]
    return tuple(part for part in parts if part not in ("", ".", ".."))
