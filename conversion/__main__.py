"""`python -m conversion`: released checkpoints -> folders that `from_pretrained` opens."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import httpx2
from transformers.utils import logging

from .changes import parse_settings, read_labels
from .checkpoint import FAMILIES, Checkpoint
from .downloads import cached, default_cache, digest_problem, fetch
from .folders import convert_file, read_provenance, sha256
from .listing import align, describe, table
from .registry import find, search
from .verification import Verification, format_verification


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 1 with a message on stderr."""
    args = build_parser().parse_args(arguments)
    if args.run is not run_publish:
        logging.disable_progress_bar()  # of files that take a second; downloads have one of their own
    try:
        return args.run(args)
    except (OSError, ValueError, httpx2.HTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Parser whose result holds the function to `run`."""
    parser = argparse.ArgumentParser(prog="python -m conversion", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="table of all checkpoints")
    command.add_argument("--family", choices=FAMILIES)
    command.add_argument("--search", default="", metavar="WORDS", help="words that must be in a name or the title")
    command.set_defaults(run=run_list)

    command = commands.add_parser("show", help="everything that is known about a checkpoint")
    command.add_argument("name", metavar="NAME", help="our name, or any that people use")
    command.set_defaults(run=run_show)

    add_convert(commands)

    command = commands.add_parser("verify", help="prove a folder against the official file that it was made from")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--source", type=Path, metavar="FILE", help="the official file (default: the one downloaded)")
    add_cache(command)
    command.set_defaults(run=run_verify)

    command = commands.add_parser("card", help="write the model card (README.md) of a folder")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.set_defaults(run=run_card)

    command = commands.add_parser("export", help="write a folder's weights in another layout")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--layout", required=True, choices=("official", "native"), help="native: transformers' AST")
    command.add_argument("--out", required=True, type=Path, metavar="PATH")
    command.set_defaults(run=run_export)

    command = commands.add_parser("publish", help="upload a verified folder to the Hub")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--repo", required=True, metavar="ID", help="such as your-name/ast-base-s10")
    command.add_argument("--private", action="store_true")
    command.set_defaults(run=run_publish)
    return parser


def add_cache(command: argparse.ArgumentParser) -> None:
    """The option of all commands that may download."""
    command.add_argument("--cache", type=Path, metavar="DIR", help=f"of official files (default: {default_cache()})")


def add_convert(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command `convert`."""
    command = commands.add_parser(
        "convert",
        help="make a folder of an official file, downloaded or local",
        description="Make a folder with weights, config, front end, code and card. Nothing half-made is ever left.",
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("what", nargs="?", metavar="NAME|FILE", help="a checkpoint to download, or its file")
    what.add_argument("--all", action="store_true", help="convert and verify every checkpoint, into DIR/NAME")
    command.add_argument("--family", choices=FAMILIES, help="with --all: only this family")
    command.add_argument("--as", dest="like", metavar="NAME", help="what a renamed or fine-tuned FILE is like")
    command.add_argument("--out", type=Path, metavar="DIR", help="folder to make (default: ./NAME)")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="FIELD=VALUE",
        help="field of the config or the feature extractor in which a fine-tuned FILE differs",
    )
    command.add_argument("--labels", type=Path, metavar="FILE", help="its labels: one per line, or JSON")
    add_cache(command)
    command.add_argument("--verify", action="store_true", help="prove the folder against the file")
    command.set_defaults(run=run_convert)


def run_list(args: argparse.Namespace) -> int:
    """Print the table."""
    found = search(family=args.family, words=args.search)
    if not found:
        raise ValueError(f"No checkpoint fits --search {args.search!r}.")
    print(table(found))
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print everything of an entry."""
    print(describe(find(args.name)))
    return 0


def run_convert(args: argparse.Namespace) -> int:
    """Convert one checkpoint, or all."""
    if args.all:
        if args.like or args.settings or args.labels:
            raise ValueError("--as, --set and --labels are for one file, and do not go with --all.")
        return convert_all(search(family=args.family), args.out or Path(), cache=args.cache)
    if args.family is not None:
        raise ValueError("--family goes with --all only.")
    checkpoint, file, url = find_source(args.what, args.like, cache=args.cache)
    changes = parse_settings(args.settings)
    if args.labels is not None:
        changes["id2label"] = read_labels(args.labels)
    folder = args.out or Path(checkpoint.name)
    convert_file(file, checkpoint, folder, url=url, changes=changes)
    if args.verify:
        prove(folder, file)
    if args.verify or not (folder / "README.md").is_file():
        from .cards import write_card

        write_card(folder)
    print(folder)
    if not args.verify:
        print(f"next: python -m conversion verify {folder} --source {file}", file=sys.stderr)
    print(f"next: python -m conversion publish {folder} --repo ID", file=sys.stderr)
    return 0


def find_source(what: str, like: str | None, *, cache: Path | None) -> tuple[Checkpoint, Path, str | None]:
    """The checkpoint, its file, and the URL that this came from; None for a local file."""
    file = Path(what)
    if not file.is_file():
        if like is not None:
            raise ValueError(f"--as is for files, and {what!r} is none.")
        try:
            checkpoint = find(what)
        except ValueError as error:
            raise ValueError(f"{what!r} is no file. {error}") from error
        return checkpoint, *fetch(checkpoint, cache=cache)
    if like is not None:
        return find(like), file, None
    try:
        checkpoint = find(file.name)
    except ValueError as error:
        raise ValueError(f"{error} Say with --as what {what!r} is, or is like.") from error
    if (problem := digest_problem(checkpoint, sha256(file), file.name)) is not None:
        raise ValueError(f"{what}: {problem}. If it is meant to differ, take --as {checkpoint.name}.")
    return checkpoint, file, None


def prove(folder: Path, source: Path) -> Verification:
    """Verify a folder and print what was found; not to pass is an error."""
    from .verify import verify_folder

    verification = verify_folder(folder, source)
    print(format_verification(verification))
    if not verification.passed:
        raise ValueError(f"{folder} is not what {source} holds: {'; '.join(verification.problems)}")
    return verification


def convert_all(checkpoints: Iterable[Checkpoint], out: Path, *, cache: Path | None) -> int:
    """Convert, verify and describe every checkpoint, whatever becomes of the others; print a table of the results."""
    from .cards import write_card

    rows, status = [("name", "tensors", "difference", "result")], 0
    for checkpoint in checkpoints:
        print(f"{checkpoint.name} ...", file=sys.stderr)
        try:
            file, url = fetch(checkpoint, cache=cache)
            folder = convert_file(file, checkpoint, out / checkpoint.name, url=url)
            with redirect_stdout(sys.stderr):  # the table is the result
                verification = prove(folder, file)
            write_card(folder)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            rows.append((checkpoint.name, "-", "-", f"failed: {str(error).splitlines()[0]}"))
            status = 1
        else:
            assert verification.forward is not None  # as it passed
            difference = f"{verification.forward.reference_difference:.1e}"
            rows.append((checkpoint.name, str(verification.tensors.kept), difference, "verified"))
    print(align(rows))
    return status


def run_verify(args: argparse.Namespace) -> int:
    """Prove a folder."""
    source = args.source
    if source is None:
        checkpoint = find(read_provenance(args.folder)["checkpoint"])
        source = cached(checkpoint, cache=args.cache)
        if source is None:
            raise ValueError(
                f"{checkpoint.file_name} is not in the cache; give the file that the folder was made from as --source."
            )
    prove(args.folder, source)
    return 0


def run_card(args: argparse.Namespace) -> int:
    """Write the card."""
    from .cards import write_card

    print(write_card(args.folder))
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write another layout."""
    from .export import export_folder

    zeros = export_folder(args.folder, args.out, args.layout)
    print(args.out)
    if zeros:
        print(f"written as zeros, as the loader demands them and nothing reads them: {', '.join(zeros)}")
    return 0


def run_publish(args: argparse.Namespace) -> int:
    """Upload."""
    from .publish import publish_folder

    print(publish_folder(args.folder, args.repo, private=args.private))
    return 0


if __name__ == "__main__":
    sys.exit(main())
