"""`hf-ast convert`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .checkpoints import Family
from .errors import for_each, note, report
from .options import Cache, Json, quiet_loading
from .output import results, show_result


def convert(
    what: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FILE", help="Checkpoint to download, or its file.", show_default=False),
    ] = None,
    all_checkpoints: Annotated[
        bool, typer.Option("--all", help="Convert and verify every checkpoint, into OUT/NAME.")
    ] = False,
    family: Annotated[Family | None, typer.Option(help="With --all: only this family.")] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="Checkpoint that FILE is (if it was renamed), or was fine-tuned from."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to create.", show_default="./NAME")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Field of the config or the feature extractor in which a fine-tuned FILE differs. May be repeated.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels of a fine-tuned FILE: one per line, or JSON.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="average|raw|NAME",
            help="Which weights of FILE to take, if it has several. NAME: of their container, such as student.",
            show_default="average",
        ),
    ] = None,
    cache: Cache = None,
    verify: Annotated[bool, typer.Option("--verify", help="Verify the folder against the file.")] = False,
    as_json: Json = False,
) -> None:
    """Convert an official file, downloaded or local, into a folder for `from_pretrained`.

    The folder holds weights, config, feature extractor, code and model card. If something fails, it is not created.
    Prints its path; with `--all`, one line per checkpoint: name, number of tensors that are the same as in the file,
    largest difference from an independent implementation, and result.

    FILE may be what a trainer saved around the tensors: with torch or safetensors, in one file, in several with an
    index, or in a folder. What was unwrapped, left out, and assumed because no tensor tells it, is printed and
    recorded.

    With `--json`, the result is an object with `name`, `folder`, `source`, `url`, `unwrapped`, `assumed`, and
    `verification`, which is null without `--verify`. With `--all`, it is an array of such objects; those of failures
    have only `name` and `error`.
    """
    if all_checkpoints == (what is not None):
        raise typer.BadParameter("Give either a checkpoint or --all.", param_hint="NAME|FILE")
    if all_checkpoints and (like or settings or labels or weights):
        raise typer.BadParameter("--as, --set, --labels and --weights are for one file, not for --all.")
    if family is not None and not all_checkpoints:
        raise typer.BadParameter("--family can only be used with --all.")
    quiet_loading()
    if what is None:
        convert_all(family, out or Path(), cache, as_json)
    else:
        convert_one(what, like, out, settings or [], labels, weights, cache, verify, as_json)


def convert_one(
    what: str,
    like: str | None,
    out: Path | None,
    settings: list[str],
    labels: Path | None,
    weights: str | None,
    cache: Path | None,
    verify: bool,
    as_json: bool,
) -> None:
    """Convert a file and print its folder."""
    from hf_ast.conversion import changes as changing, commands
    from hf_ast.conversion.verification import format_verification

    source = commands.find_source(what, like, cache=cache)
    changes = changing.parse_settings(settings)
    if labels is not None:
        changes["id2label"] = changing.read_labels(labels)
    folder = out or Path(source.checkpoint.name)
    verification = commands.convert_source(source, folder, changes=changes, weights=weights, verify=verify)
    for remark in commands.remarks(folder):
        note(remark)
    if verification is not None:
        note(format_verification(verification))
    show_result(as_json, as_data(source, folder, verification), [str(folder)])
    if verification is None:
        note(f"next: hf-ast verify {folder} --source {source.file.path}")
    note(f"next: hf-ast publish {folder} --repo ID")


def convert_all(family: str | None, out: Path, cache: Path | None, as_json: bool) -> None:
    """Convert every checkpoint, even if others fail, and print a line for each."""
    from hf_ast.conversion import commands

    found = commands.list_checkpoints(family=family)
    width = max(len(checkpoint.name) for checkpoint in found)
    failed: list[str] = []
    with results(as_json) as add:

        def convert(checkpoint: Any) -> None:
            note(f"{checkpoint.name} ...")
            folder = out / checkpoint.name
            source, verification = commands.convert_released(checkpoint, folder, cache=cache)
            assert verification.forward is not None  # computed for every released checkpoint
            difference = verification.forward.reference_difference
            line = f"{checkpoint.name:<{width}}  {verification.tensors.kept:>4}  {difference:7.1e}  verified"
            add(as_data(source, folder, verification), [line])

        def fail(checkpoint: Any, error: str) -> None:
            failed.append(checkpoint.name)
            report(f"{checkpoint.name}: {error}")
            line = f"{checkpoint.name:<{width}}  {'-':>4}  {'-':>7}  failed: {error.splitlines()[0]}"
            add({"name": checkpoint.name, "error": error}, [line])

        for_each(found, convert, fail)
    if failed:
        raise typer.Exit(1)


def as_data(source: Any, folder: Path, verification: Any) -> dict[str, Any]:
    """Return the result of a conversion as data for JSON."""
    from hf_ast.conversion.folders import read_provenance

    provenance = read_provenance(folder)
    return {
        "name": source.checkpoint.name,
        "folder": str(folder),
        "source": str(source.file.path),
        "url": source.url,
        **{name: provenance[name] for name in ("unwrapped", "assumed")},
        "verification": None if verification is None else verification.to_json(),
    }
