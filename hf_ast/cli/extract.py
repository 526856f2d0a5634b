"""`hf-ast extract`."""

import dataclasses
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from hf_ast.choices import Engine, Extracted, ExtractedRows

from .errors import note, report
from .files import Failure, note_archives
from .options import DEFAULT_MODEL, BatchOptions, Hop, Json, Model, Window, quiet_loading, with_options
from .output import show_result

# Number of recordings with errors that are shown by name
MAX_FAILURES = 100


@with_options
def extract(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Folder; manifest (.csv, .tsv, .json, .jsonl, .parquet) with a column `path`, `file` or `audio`; "
            "tar shards, such as `'shard-{000..005}.tar'`, or a folder of them; data set of `datasets`, as a folder "
            "or its id on the Hub; or URL of a folder, manifest or shard, such as `s3://...`.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.", show_default=False)],
    options: BatchOptions,
    model: Model = DEFAULT_MODEL,
    what: Annotated[Extracted, typer.Option(help="What to extract.")] = "tags",
    rows: Annotated[ExtractedRows, typer.Option(help="One row per recording, or one per window.")] = "files",
    window: Window = None,
    hop: Hop = None,
    threshold: Annotated[
        float, typer.Option(metavar="SCORE", min=0, max=1, help="Score from which a label counts as heard.")
    ] = 0.5,
    subset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Subset of a data set.", show_default="the default one")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split of a data set.", show_default="all splits")
    ] = None,
    files_per_shard: Annotated[
        int, typer.Option(min=1, help="Recordings per file of results; a killed run loses unfinished files.")
    ] = 64,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Redo files of results that have recordings with errors.")
    ] = False,
    engine: Annotated[Engine, typer.Option(help="This machine, or a Ray cluster.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Address of the Ray cluster.", show_default="the one that RAY_ADDRESS names, or a new one"),
    ] = None,
    num_actors: Annotated[
        int | None,
        typer.Option(min=1, help="Models on the Ray cluster.", show_default="one per GPU, or else per processor"),
    ] = None,
    num_workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that decode for each model.",
            show_default="one per processor, at most four; with Ray none",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Extract tags and embeddings of a corpus into Parquet files.

    DIR/data gets files with the columns `path`, `start_s`, `end_s`, `labels`, `scores`, `events`, `embedding`,
    `error`, `warnings`, `model` and `revision`, as far as they were asked for. However a run ended, the same command
    continues with what is left; other settings need another folder. Where a manifest names parts of recordings, each
    part has a row. A recording that cannot be read becomes a row with its `error`, and the exit status is 1; one that
    is damaged, but was read as far as it goes, has `warnings`.

    Prints a summary; with `--json`, an object with `out`, `num_files`, `num_done_before`, `num_errors`,
    `num_warnings`, `audio_s`, `elapsed_s` and `failed`, each with `file` and `error`. Errors, warnings, audio and time
    are those of this run.
    """
    import hf_ast
    from hf_ast.data.sources import find_source

    quiet_loading()
    place = find_source(source, subset=subset, split=split)
    note_archives(place.archives(), source)
    try:
        with redirect_stdout(sys.stderr):  # for what Ray prints about its workers
            done = hf_ast.extract(
                place,
                out,
                model=model,
                what=what,
                rows=rows,
                window_s=window,
                hop_s=hop,
                threshold=threshold,
                num_files_per_shard=files_per_shard,
                retry_errors=retry_errors,
                engine=engine,
                address=address,
                num_actors=num_actors,
                num_workers=num_workers,
                progress=sys.stderr.isatty(),
                **options.settings(),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; the same command continues with what is left") from None
    failures = [Failure(file, error) for file, error in done.failed]
    for failure in failures[:MAX_FAILURES]:
        report(f"{failure.file}: {failure.error}")
    if len(failures) > MAX_FAILURES:
        note(f"and {len(failures) - MAX_FAILURES} others, which the column `error` names")
    if done.num_warnings:
        note(f"{done.num_warnings} recordings were read, but have warnings, in the column `warnings`")
    data = dataclasses.asdict(done) | {"out": str(done.out), "failed": [failure.as_data() for failure in failures]}
    num_new = done.num_files - done.num_done_before
    line = (
        f"{done.out}: {done.num_files} recordings, {num_new} of them in this run "
        f"({done.audio_s / 3600:.2f} h in {done.elapsed_s:.0f} s, {done.num_errors} could not be read, "
        f"{done.num_warnings} with warnings)"
    )
    show_result(as_json, data, [line])
    if done.num_errors:
        raise typer.Exit(1)
