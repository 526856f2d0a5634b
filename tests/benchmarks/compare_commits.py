"""Whether two commits give the same outputs, bit by bit, on the inputs of all golden cases.

    python -m tests.benchmarks.compare_commits BEFORE [AFTER]

Each commit is checked out into a temporary folder, where its own `tests/test_golden.py` runs with one thread and this
file as a pytest plugin, which keeps every array that the test compares. The arrays take about 4 GB of temporary files.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Folder for the arrays, one file per case; set in the processes that run the cases
ARRAYS_VARIABLE = "HF_AST_COMPARED_ARRAYS"


def main() -> None:
    """Run both commits, print what differs, and exit with 1 if something does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="commit to compare with")
    parser.add_argument("after", nargs="?", default="HEAD", help="commit to check; HEAD if not given")
    parser.add_argument("--cases", default="", help="only cases whose name contains this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outputs = []
        for name in ("before", "after"):
            outputs.append(Path(folder, f"{name}-arrays"))
            record_outputs(getattr(options, name), Path(folder, name), outputs[-1], options.cases)
        sys.exit(0 if compare(*outputs) else 1)


def record_outputs(commit: str, checkout: Path, out: Path, cases: str = "") -> None:
    """Keep the outputs of a commit.

    Args:
        commit: In any form that git takes.
        checkout: Folder to make for its files, and to remove afterwards.
        out: Folder to make for the arrays, one `.npz` file per case.
        cases: Only cases whose name contains this.
    """
    out.mkdir()
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", checkout, commit], check=True)
    try:
        path = os.pathsep.join((str(checkout), str(Path(__file__).parent)))
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", ARRAYS_VARIABLE: str(out)}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            Path(__file__).stem,
            "-m",
            "slow or not slow",
            "tests/test_golden.py",
        ]
        subprocess.run([*command, "-k", cases] if cases else command, cwd=checkout, env=environment, check=True)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", checkout], check=True)


def compare(before: Path, after: Path) -> bool:
    """Print which arrays differ, and by how much.

    Args:
        before, after: Folders of `.npz` files, one per case.

    Returns:
        Whether both hold the same arrays, with the same bits.
    """
    cases = {path.name for folder in (before, after) for path in folder.iterdir()}
    num_arrays = num_equal = 0
    for case in sorted(cases):
        first, second = (load(folder / case) for folder in (before, after))
        for name in sorted(first.keys() | second.keys()):
            num_arrays += 1
            if name not in first or name not in second:
                print(f"{case} {name}: only {'before' if name in first else 'after'}")
            elif same_bits(first[name], second[name]):
                num_equal += 1
            else:
                print(f"{case} {name}: {difference(first[name], second[name])}")
    print(f"{len(cases)} cases, {num_arrays} arrays, {num_equal} of them with the same bits")
    return 0 < num_arrays == num_equal


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a case; none if the file does not exist."""
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)


def same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether dtype, shape and every bit are the same."""
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def difference(first: np.ndarray, second: np.ndarray) -> str:
    """How two arrays with different bits differ."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return f"{first.dtype} {first.shape} before, {second.dtype} {second.shape} after"
    distance = np.abs(first.astype(np.float64) - second.astype(np.float64))
    changed, largest = np.count_nonzero(distance), np.abs(first).max()
    return f"{changed} of {distance.size} values, by up to {distance.max():.3g} of {largest:.3g}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As a plugin: keep what `tests/test_golden.py` passes to `check.compare`."""
    folder = Path(os.environ[ARRAYS_VARIABLE])
    module = items[0].module
    module.check.compare = recording(module.check.compare, folder)


def recording(compare_case: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """`check.compare`, and the arrays of the case go into a file."""

    def compare_and_record(entry: Mapping[str, Any], result: Mapping[str, Any], *arguments: Any) -> Any:
        np.savez(folder / f"{entry['case']}.npz", **{name: np.asarray(value) for name, value in result.items()})
        return compare_case(entry, result, *arguments)

    return compare_and_record


if __name__ == "__main__":
    main()
