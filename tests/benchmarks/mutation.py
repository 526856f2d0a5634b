"""Mutation testing: small changes to the modules whose numbers matter, each of which a test should notice.

    python -m tests.benchmarks.mutation                      # make mutation
    python -m tests.benchmarks.mutation --modules masking    # some of the modules
    python -m tests.benchmarks.mutation --share 1            # all mutants

`tests/support/mutants.py` has the kinds of changes. Each mutant runs in a fork of a process that has imported
everything but this project, on those tests that run the changed line, the fastest first, until one fails. A mutant
survives if none does. Survivors that no test can notice are in `equivalent_mutants.toml`, with the reason; any other
one makes the exit status 1. Why no library: those that fork put a dispatcher around each function, through which
`torch.compile` and `torch.export` do not trace, and leave tables and constants of a module as they are.
"""

import argparse
import ast
import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import select
import signal
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import coverage
import pytest
import torch
from hypothesis import settings

from tests.support.mutants import find_mutants

ROOT = Path(__file__).parents[2]
MODELS = "tests/models"
GOLDEN = "tests/test_golden.py::test_golden"
PROJECT = ("hf_ast", "conversion", "tests")
# Module -> tests that are to notice its mutants
MODULES: dict[str, tuple[str, ...]] = {
    "hf_ast/models/modules_fbank.py": (f"{MODELS}/test_fbank.py",),
    "hf_ast/models/modules_passt_mel.py": (f"{MODELS}/test_passt_mel.py", f"{MODELS}/test_fbank.py"),
    "hf_ast/models/modules_mel_filters.py": (f"{MODELS}/test_fbank.py", f"{MODELS}/test_passt_mel.py"),
    "hf_ast/models/modules_masking.py": (f"{MODELS}/test_masking.py", f"{MODELS}/test_ssast.py"),
    "hf_ast/models/modules_positions.py": (f"{MODELS}/test_positions.py", f"{MODELS}/test_ssast.py"),
    "hf_ast/models/modules_patchout.py": (f"{MODELS}/test_patchout.py",),
    "hf_ast/models/modules_spec_augment.py": (f"{MODELS}/test_spec_augment.py",),
    "hf_ast/models/modules_objectives.py": (f"{MODELS}/test_objectives.py", f"{MODELS}/test_ssast.py"),
    "hf_ast/models/modules_pretraining.py": (f"{MODELS}/test_ssast.py",),
    "hf_ast/models/modules_pooling.py": (f"{MODELS}/test_objectives.py",),
    "hf_ast/models/modules_classification.py": (f"{MODELS}/test_labels.py",),
    "hf_ast/models/modules_token_merging.py": (f"{MODELS}/test_token_merging.py",),
    "conversion/key_maps.py": (
        "tests/conversion/test_conversion.py",
        "tests/conversion/test_export.py",
        "tests/conversion/test_torch_only.py",
        f"{GOLDEN}[passt_micro_t998]",
        f"{GOLDEN}[ssast_superb_tiny_patch_t100]",
    ),
    "hf_ast/inference/windows.py": ("tests/inference/test_windows.py",),
}
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
RESULTS = ROOT / "build" / "mutation.json"


class Changed(importlib.abc.MetaPathFinder):
    """Imports one module of the project from a syntax tree."""

    def __init__(self, path: str, tree: ast.Module):
        self.name = path.removesuffix(".py").replace("/", ".")
        self.path = str(ROOT / path)
        self.tree = tree

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self.name:
            return None
        finder = self

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> Any:
                return compile(ast.fix_missing_locations(finder.tree), finder.path, "exec")

        return importlib.util.spec_from_file_location(name, self.path, loader=Loader(name, self.path))


class Lines:
    """Plugin of pytest: the lines of one file that each test runs, and how long it takes."""

    def __init__(self, path: str):
        self.path = str(ROOT / path)
        self.coverage = coverage.Coverage(data_file=None, include=[self.path], config_file=False)
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        begin = time.perf_counter()
        self.coverage.start()
        self.coverage.switch_context(item.nodeid)
        result = yield
        self.coverage.stop()
        self.seconds[item.nodeid] = time.perf_counter() - begin
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(f"{report.nodeid}\n{report.longreprtext}")

    def tests(self) -> dict[str, dict[str, Any]]:
        contexts = self.coverage.get_data().contexts_by_lineno(self.path)
        return {
            name: {"lines": [line for line, names in contexts.items() if name in names], "seconds": seconds}
            for name, seconds in self.seconds.items()
        }


class Chosen:
    """Plugin of pytest: only some tests, in their order; and those of the same functions that have new parameters.

    A mutant may change the parameters of a test, and with them its name.
    """

    def __init__(self, chosen: list[str], known: set[str]):
        self.order = {name: place for place, name in enumerate(chosen)}
        self.functions = {_function(name): place for name, place in reversed(self.order.items())}
        self.known = known

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        places = {}
        for item in items:
            place = self.order.get(item.nodeid)
            if place is None and item.nodeid not in self.known:
                place = self.functions.get(_function(item.nodeid))
            if place is not None:
                places[item] = place
        items[:] = sorted(places, key=lambda item: places[item])


def _function(name: str) -> str:
    return name.partition("[")[0]


def run_pytest(files: tuple[str, ...], plugin: Any, *options: str) -> int:
    # Without what takes longer than most tests: imports of the fixtures of other files, and collecting garbage
    without = [argument for name in ("cacheprovider", "unraisableexception") for argument in ("-p", f"no:{name}")]
    arguments = ["-q", "--noconftest", *without, "--rootdir", str(ROOT), *options]
    return int(pytest.main([*arguments, *(str(ROOT / file) for file in files)], plugins=[plugin]))


def in_fork(function: Callable[[], Any], timeout: float) -> Any:
    """What a function returns in a forked process, as JSON would keep it; None where it does not return in time."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        os.close(reader)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        settings.register_profile("mutation", database=None, derandomize=True)
        settings.load_profile("mutation")
        torch.manual_seed(0)
        with os.fdopen(writer, "w") as results:
            json.dump(function(), results)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as results:
        # What a test has started may hold the pipe open
        is_ready, _, _ = select.select([results], [], [], timeout)
        content = results.read() if is_ready else ""
    with contextlib.suppress(ProcessLookupError):  # it has ended with all that it started
        os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return json.loads(content) if content else None


def import_others(names: list[str]) -> None:
    """Import what tests import, except for this project: forks begin with it."""
    for name in names:
        if name.partition(".")[0] not in (*PROJECT, "__main__"):
            # Some are made by others, and there is nothing to import
            with contextlib.suppress(ImportError, AttributeError, ValueError, RuntimeError, TypeError):
                importlib.import_module(name)


@dataclass
class Baseline:
    """The tests of a module as it is: the lines that they run, and their seconds."""

    path: str
    files: tuple[str, ...]
    tests: dict[str, dict[str, Any]]

    @classmethod
    def measure(cls, path: str) -> "Baseline":
        files = MODULES[path]

        def measured() -> Any:
            lines = Lines(path)
            run_pytest(files, lines)
            imported = [name for name in sys.modules if name.partition(".")[0] not in PROJECT]
            return {"tests": lines.tests(), "failed": lines.failed, "imported": imported}

        result = in_fork(measured, timeout=900)
        if result is None or not result["tests"] or result["failed"]:
            raise RuntimeError(f"the tests of {path} fail as it is: {result and result['failed']}")
        import_others(result["imported"])
        gc.freeze()  # a fork need not look through it
        return cls(path, files, result["tests"])

    def chosen(self, lines: tuple[int, int]) -> list[str]:
        """The tests that run one of the lines, the fastest first; all of them where none does."""
        first, last = lines
        found = [name for name, test in self.tests.items() if any(first <= line <= last for line in test["lines"])]
        # Compiled code and what runs at import shows no lines
        return sorted(found or self.tests, key=lambda name: self.tests[name]["seconds"])

    def outcome(self, number: int | None, lines: tuple[int, int]) -> str:
        """ "killed", "timeout" or "survived", for the mutant of that number; without one, for the module as it is."""
        chosen = self.chosen(lines)
        seconds = sum(self.tests[name]["seconds"] for name in chosen)

        def status() -> int:
            tree = ast.parse((ROOT / self.path).read_text())
            mutants = find_mutants(tree)
            if number is not None:
                mutants[number].apply()
            sys.meta_path.insert(0, Changed(self.path, tree))
            # File by file: what the first one notices needs not import what the others import
            for file in self.files:
                own = [name for name in chosen if name.startswith(file)]
                failed = run_pytest((file,), Chosen(own, set(self.tests)), "-x") if own else 0
                if failed:
                    return failed
            return 0

        result = in_fork(status, timeout=30 + 5 * seconds)
        if result == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise RuntimeError(f"no test of {self.path} ran for mutant {number}")
        return "timeout" if result is None else "killed" if result else "survived"


def equivalents() -> dict[str, dict[str, str]]:
    """Module -> mutant -> why no test can notice it."""
    entries: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in tomllib.loads(EQUIVALENT.read_text())["equivalent"]:
        for key in entry["mutants"]:
            entries[entry["module"]][key] = entry["reason"]
    return entries


def run_module(path: str, share: float, seed: int, earlier: dict[str, str]) -> dict[str, Any]:
    """The outcomes of a sample of a module's mutants; those that were killed earlier count as killed."""
    baseline = Baseline.measure(path)
    mutants = find_mutants(ast.parse((ROOT / path).read_text()))
    sample = sorted(random.Random(f"{seed} {path}").sample(range(len(mutants)), round(share * len(mutants))))
    begin, outcomes = time.perf_counter(), {}
    if baseline.outcome(None, (0, 0)) != "survived":
        raise RuntimeError(f"{path}: the tests fail in this program without a mutant")
    for number in sample:
        mutant = mutants[number]
        outcome = earlier.get(mutant.key, "survived")
        if outcome == "survived":
            outcome = baseline.outcome(number, mutant.lines)
        outcomes[mutant.key] = outcome
        if outcome != "killed":
            print(f"{path}: {outcome}: {mutant.key}", flush=True)
    return {"mutants": len(mutants), "outcomes": outcomes, "seconds": time.perf_counter() - begin}


def report(results: dict[str, dict[str, Any]]) -> int:
    """Print the table; the number of survivors that are not said to be equivalent."""
    reasons = equivalents()
    print("| module | mutants | tried | killed | equivalent | survived | killed of the others |")
    print("|---|---|---|---|---|---|---|")
    totals = [0] * 5
    for path, result in results.items():
        outcomes = result["outcomes"]
        survivors = [key for key, outcome in outcomes.items() if outcome == "survived"]
        num_equivalent = sum(key in reasons[path] for key in survivors)
        row = [
            result["mutants"],
            len(outcomes),
            len(outcomes) - len(survivors),
            num_equivalent,
            len(survivors) - num_equivalent,
        ]
        totals = [total + number for total, number in zip(totals, row, strict=True)]
        print_row(path, row)
    print_row("all", totals)
    return totals[-1]


def print_row(name: str, row: list[int]) -> None:
    share = row[2] / max(1, row[1] - row[3])
    print("|", " | ".join([name, *map(str, row), f"{share:.1%}"]), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--modules", nargs="*", default=[], help="parts of their names; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="share of the mutants that is tried")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON of all results")
    parser.add_argument("--again", action="store_true", help="only those that survived, or are new, since --out")
    options = parser.parse_args()
    torch.set_num_threads(1)  # other threads do not survive a fork
    results = json.loads(options.out.read_text()) if options.again else {}
    for path in MODULES:
        if not options.modules or any(part in path for part in options.modules):
            earlier = results.get(path, {}).get("outcomes", {})
            results[path] = run_module(path, options.share, options.seed, earlier)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=1))
    sys.exit(1 if report(results) else 0)


if __name__ == "__main__":
    main()
