"""Commands that are killed, get no room or no network: what has its final name is whole, and a second run completes.

Half of the signals come at a random time of the run, and half at or shortly after a random operation on files, where a
run leaves most if it leaves something. Every trial is a process of its own, forked from one that has imported all;
only those with another environment are programs started from nothing. A disk that is full or read-only is a tmpfs,
which takes the rights to mount one. Downloads come from a server on loopback, and folders are published to a Hub on
loopback. Prints a row for each fault, and a table in Markdown at the end; the exit status is 1 if something was
partial or was not complete after the second run, if a run hung or showed a traceback, or if temporary files are left.
(`corpus_faults` kills long extractions, on Ray as well.)

    python -m tests.benchmarks.faults [--kills 20] [--interrupts 10] [--seed 0] [--commands convert card ...]
        [--faults SIGKILL "full disk" ...] [--json FILE]
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .forks import disk
from .network import network

if TYPE_CHECKING:
    from .trials import Row

COLUMNS = ("trials", "struck", "whole", "absent", "partial", "not_completed", "tracebacks", "left_over", "hung")
FAULTS = (
    "SIGKILL",
    "SIGINT",
    "two at once",
    "full disk",
    "read-only target",
    "bare environment",
    "lost network",
    "short body",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--interrupts", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--commands", nargs="+", help="some of the commands only")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS, help="some of the faults only")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        (folder / "hub").mkdir()
        with disk(folder / "disk") as mount, network(folder / "hub") as servers:
            os.environ |= servers.environment()  # before huggingface_hub is imported, which reads it then
            rows = run(args, folder, mount, servers)
    elapsed_s = time.monotonic() - began_at
    print(f"\n{markdown(rows)}\n\n{sum(row.trials for row in rows)} trials in {elapsed_s / 60:.0f} min")
    if args.json is not None:
        results = {"seed": args.seed, "elapsed_s": elapsed_s, "rows": [vars(row) for row in rows]}
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.is_good for row in rows) else 1


def run(args: argparse.Namespace, folder: Path, mount: Path, servers: object) -> list["Row"]:
    """All trials, each fault with its row as soon as it is done."""
    import_all()
    from .commands import examples
    from .trials import Bench

    commands = examples(folder, servers)
    print(f"{'command':14} {'fault':16} " + " ".join(COLUMNS) + " seconds")
    rows = []
    for name in args.commands or commands:
        bench = Bench(name, commands[name], folder / "trials" / name, mount, servers, random.Random(args.seed))
        print(f"{name}: {bench.duration_s:.1f} s, {bench.num_operations} operations, {bench.num_bytes / 1e6:.1f} MB")
        for fault, strikes in bench.faults(args.kills, args.interrupts).items():
            if fault not in args.faults:
                continue
            row = bench.run(fault, strikes)
            values = " ".join(f"{getattr(row, column):{len(column)}}" for column in COLUMNS)
            print(f"{name:14} {fault:16} {values} {row.elapsed_s:7.0f}  {dict(row.statuses)}", flush=True)
            for problem in row.problems:
                print("    " + problem.replace("\n", "\n    "), file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def import_all() -> None:
    """What the commands need, once for all trials; without starting a thread."""
    import torch

    import hf_ast.export.folder
    import hf_ast.inference.corpus
    import hf_ast.plotting
    import hf_ast.training.finetune
    import hf_ast.training.pretraining  # noqa: F401

    torch.set_num_threads(1)


def markdown(rows: Sequence["Row"]) -> str:
    """Trials of each command and fault, and what was wrong in all of them."""
    cells = {(row.command, row.fault): str(row.trials) for row in rows}
    names = list(dict.fromkeys(row.command for row in rows))
    faults = [fault for fault in FAULTS if any(row.fault == fault for row in rows)]
    lines = [f"| command | {' | '.join(faults)} | partial | not completed |", "|---" * (len(faults) + 3) + "|"]
    for name in names:
        own = [row for row in rows if row.command == name]
        counts = [cells.get((name, fault), "-") for fault in faults]
        counts += [str(sum(row.partial for row in own)), str(sum(row.not_completed for row in own))]
        lines.append(f"| {name} | {' | '.join(counts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
