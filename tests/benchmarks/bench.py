"""The table of targets: our speed against transformers' own AST, both sides in one run.

    python -m tests.benchmarks.bench [--only PART ...] [--size tiny|base] [--compiled] [--json FILE]
        [--torchaudio DIR] [--hear DIR]

Ratios are of medians of interleaved repetitions; above 1 means that we are faster. With the folder of a pure-Python
torchaudio and a checkout of kkoutini/passt_hear21, the front ends are compared with these as well. On a CPU with AMX,
the parts that use it are run a second time without it. `python -m tests.benchmarks.figure FILE` draws the costs.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from hf_ast.inference.fast import fastest_precision
from tests.benchmarks import bench_front_ends, bench_models, bench_start

Row = dict[str, Any]
# Name -> rows; each has `what`, and `ratio` with its `target`, or other numbers
PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "front-ends": bench_front_ends.rows,
    "labels": bench_models.labels,
    "forward": bench_models.forward,
    "profile": bench_models.profile,
    "training": bench_models.training,
    "merging": bench_models.merging,
    "start": bench_start.rows,
    "costs": bench_models.costs,
}
WITH_AMX = ("labels", "forward")
WITHOUT_AMX = "AVX512_CORE_BF16"


def has_amx() -> bool:
    """Whether this CPU has AMX, and oneDNN may use it."""
    return bool(torch.cpu._is_amx_tile_supported()) and "ONEDNN_MAX_CPU_ISA" not in os.environ


def without_amx(options: argparse.Namespace) -> list[Row]:
    """The rows of `WITH_AMX` in a process whose oneDNN does not use AMX."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.json")
        command = [sys.executable, "-m", "tests.benchmarks.bench", "--json", str(path), "--size", options.size]
        command += ["--repetitions", str(options.repetitions), *(["--compiled"] if options.compiled else [])]
        command += ["--only", *[part for part in WITH_AMX if part in options.only]]
        subprocess.run(command, env=os.environ | {"ONEDNN_MAX_CPU_ISA": WITHOUT_AMX}, check=True)
        rows: list[Row] = json.loads(path.read_text())["rows"]
    return [row | {"what": f"{row['what']}, without AMX"} for row in rows]


def show(row: Row) -> None:
    """Print a row as a line."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float | int))
    print(f"{row['what']:<72}  {values}", flush=True)


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--size", choices=("tiny", "base"), default="base", help="of the models")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--compiled", action="store_true", help="also with torch.compile, which takes minutes")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--torchaudio", type=Path, help="folder that holds torchaudio without its C++ parts")
    parser.add_argument("--hear", type=Path, help="checkout of kkoutini/passt_hear21")
    options = parser.parse_args()
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "amx": has_amx(),
        "bfloat16 instructions": bool(torch.cpu._is_avx512_bf16_supported()),
        "fast setting": fastest_precision(torch.device("cpu")),
    }
    print(machine, flush=True)
    logging.disable_progress_bar()
    rows: list[Row] = []
    for part in options.only:
        for row in PARTS[part](options):
            show(row)
            rows.append({"part": part, **row})
    if has_amx() and set(options.only) & set(WITH_AMX):
        rows += without_amx(options)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "size": options.size, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
