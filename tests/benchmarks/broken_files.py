"""1,000 files in 20 formats with 20 broken ones, in every command that takes a folder: each of these must be named.

The recordings of the package as files of `KINDS`, in one folder per word. Prints a table; the exit status is 1 if a
command does not name exactly the broken files, or does not do all others.

    python -m tests.benchmarks.broken_files [--files 1000] [--broken 20] [--seed 0] [--only classify extract]
"""

import argparse
import contextlib
import io
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_ast import audio
from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.cli import main as hf_ast
from tests.support.recordings import KINDS, break_file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the files that are broken")
    parser.add_argument("--only", nargs="+", help="commands to run; evaluate needs finetune")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="broken-") as place:
        folder = Path(place) / "recordings"
        names = write_files(folder, args.files)
        chosen = random.Random(args.seed).sample(names, args.broken)
        for number, name in enumerate(chosen):
            break_file(folder / name, number)
        print(f"{len(names)} files of {len(KINDS)} kinds, {len(chosen)} broken\n")
        print(f"{'command':<10} {'named':>6} {'others named':>13} {'done':>6} {'status':>7} {'s':>7}")
        chosen_commands = [row for row in commands(folder, Path(place)) if not args.only or row[0] in args.only]
        is_good = [report(command, run, set(chosen), len(names)) for command, run in chosen_commands]
    return 0 if all(is_good) else 1


def write_files(folder: Path, num_files: int) -> list[str]:
    """Write files of all kinds, with the words of the package in turn, and return their names."""
    words = sorted(RECORDINGS.glob("*.flac"))
    content: dict[tuple[str, str], bytes] = {}
    names = []
    for number in range(num_files):
        kind = list(KINDS)[number % len(KINDS)]
        word = words[number // len(KINDS) % len(words)]
        if (kind, word.stem) not in content:
            encode, rate = KINDS[kind]
            content[kind, word.stem] = encode(audio.read(word, rate)[0], rate)
        name = f"{word.stem}/{number:04d}-{kind}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # A few bytes behind the sound would be damage; other names are enough, as copies are only warned of
        (folder / name).write_bytes(content[kind, word.stem])
        names.append(name)
    return names


def commands(folder: Path, place: Path) -> list[tuple[str, Callable[[], tuple[int, Any]]]]:
    """The commands, each with a function that runs it and returns its exit status and its JSON."""
    model, tuned, results = str(EMBEDDED_MODEL), str(place / "tuned"), str(place / "results")
    finetune = ["finetune", str(folder), "--out", tuned, "--epochs", "1", "--batch-size", "32", "--num-workers", "0"]
    return [
        ("classify", lambda: run(["classify", str(folder)])),
        ("tag", lambda: run(["tag", str(folder)])),
        ("embed", lambda: run(["embed", str(folder), "--out", str(place / "embeddings.npz")])),
        ("extract", lambda: run(["extract", str(folder), "--out", results])),
        ("finetune", lambda: run([*finetune, "--model", model])),
        ("evaluate", lambda: run(["evaluate", tuned, str(folder)])),
        ("stats", lambda: run(["stats", str(folder)])),
    ]


def run(arguments: list[str]) -> tuple[int, Any]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        status = hf_ast([*arguments, "--json"])
    return status, json.loads(out.getvalue())


def report(command: str, run_it: Callable[[], tuple[int, Any]], broken: set[str], num_files: int) -> bool:
    begin = time.perf_counter()
    status, result = run_it()
    elapsed_s = time.perf_counter() - begin
    if isinstance(result, list):
        failed = [row["file"] for row in result if "error" in row]
        num_done = len(result) - len(failed)
    elif "skipped" in result:
        failed = [*result["skipped"], *result.get("failed", ())]
        num_done = result["num_recordings"] if command != "finetune" else num_files - len(failed)
    else:
        failed = [row["file"] for row in result["failed"]]
        num_done = result["num_recordings" if command == "embed" else "num_files"] - (
            len(failed) if command == "extract" else 0
        )
    named = {"/".join(Path(name).parts[-2:]) for name in failed}
    others = named - broken
    print(
        f"{command:<10} {len(named & broken):>6} {len(others):>13} {num_done:>6} {status:>7} {elapsed_s:>7.1f}",
        flush=True,
    )
    return named == broken and num_done == num_files - len(broken) and status == 1


if __name__ == "__main__":
    sys.exit(main())
