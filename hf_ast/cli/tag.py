"""`hf-ast tag`."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from .errors import for_each
from .event_formats import LAYOUTS, Format, document
from .files import Recordings, expand_arguments
from .options import DEFAULT_MODEL, BatchOptions, Hop, Json, Model, Window, with_model_options
from .output import show


@with_model_options
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
    `duration_s`, and `events`, each with `label`, `start_s`, `end_s` and `peak`. CSV has a line per event with the
    columns `file`, `start_s`, `end_s`, `label` and `peak`.
    """
    file_format = Format.JSON if as_json else file_format
    layout = LAYOUTS[file_format]
    found, all_found = expand_arguments(files)
    if not found:
        raise typer.Exit(1)
    if len(found) > 1 and layout.one_recording and out is None:
        raise typer.BadParameter(
            f"{file_format} holds the events of one recording, but there are {len(found)}; give a folder as --out.",
            param_hint="--format",
        )
    targets = None if out is None else output_files(found, out, layout.suffix)
    import hf_ast

    classifier, feature_extractor = options.classifier(model)

    def events_of(file: str) -> "tuple[float, list[hf_ast.Event]]":
        tagging = hf_ast.tag(
            classifier,
            feature_extractor,
            file,
            window_s=window,
            hop_s=hop,
            threshold=threshold,
            batch_size=options.batch_size,
            progress=sys.stderr.isatty(),
        )
        kept = {label for label, _ in tagging.top(top_k or len(tagging.labels))}
        return tagging.duration_s, [event for event in tagging.events if event.label in kept]

    def write(file: str, target: Path) -> None:
        duration_s, events = events_of(file)
        with target.open("x", encoding="utf-8") as stream, document(file_format, stream) as add:
            add(file, duration_s, events)
        show(str(target))

    if targets is None:
        with document(file_format) as add:
            all_tagged = for_each(found, lambda file: add(file, *events_of(file)))
    else:
        all_tagged = for_each(found, lambda file: write(file, targets[file]))
    if not (all_found and all_tagged):
        raise typer.Exit(1)


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
