"""The first run of a new user, timed step by step: a fresh environment, and an empty folder.

    python -m tests.benchmarks.first_run PACKAGE [--until STEP] [--folder DIR] [--json FILE]

PACKAGE is a wheel or an sdist (`make dist` makes both). Every step is a command of README.md; what a user brings
along, sixty labelled sounds and a file in the exact layout of an official checkpoint, is made beforehand. Only pip
needs the network. A step that fails ends the run with exit status 1 and says what was printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from hf_ast.assets import RECORDINGS
from hf_ast.conversion.registry import find
from tests.support.interpreter import ROOT
from tests.support.official_files import write_official_file

CHECKPOINT = "ssast-tiny-patch-400"
RATE, DURATION_S, NUM_PER_CLASS = 16000, 1.0, 20
# Hz at the start and the end of a sweep
SOUNDS = {"falling": (2000, 500), "rising": (500, 2000), "steady": (1000, 1000)}


class Step(NamedTuple):
    """A step: its name, its command, and what its output must hold."""

    name: str
    command: tuple[str, ...]
    expected: str = ""


class Outcome(NamedTuple):
    """A step that was taken, its seconds, and the last line of its output."""

    name: str
    seconds: float
    command: str
    result: str


def steps(package: Path, official_file: Path) -> list[Step]:
    """List all steps, in order, for a folder that holds `recordings/` and `sounds/`."""
    pip = ("python", "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"))
    return [
        Step("environment", (sys.executable, "-m", "venv", "venv")),
        Step("install torch", (*pip, "torch")),
        Step("install hf-ast[cli,audio]", (*pip, f"{package}[cli,audio]")),
        Step("help", ("hf-ast", "--help"), "classify"),
        Step("first label", ("hf-ast", "classify", "recordings/yes.flac"), "yes"),
        Step(
            "first events",
            ("hf-ast", "tag", "recordings/left.flac", "--window", "0.8", "--hop", "0.1", "--format", "srt"),
            "left",
        ),
        Step("first embeddings", ("hf-ast", "embed", "recordings/", "--out", "embeddings.npz"), "embeddings.npz"),
        Step(
            "first conversion",
            ("hf-ast", "convert", str(official_file), "--as", CHECKPOINT, "--verify", "--out", "converted"),
            "converted",
        ),
        Step("install hf-ast[train]", (*pip, f"{package}[train]")),
        Step("first fine-tuning", ("hf-ast", "finetune", "sounds/", "--out", "my-model"), "accuracy"),
        Step("label with it", ("hf-ast", "classify", "sounds/rising/0.wav", "--model", "my-model"), "rising"),
    ]


def take(step: Step, folder: Path) -> Outcome:
    """Run a step in the folder, with the environment that an earlier step made there.

    Raises:
        RuntimeError: It failed, or printed something else than expected.
    """
    programs = folder / "venv" / "bin"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    program, *arguments = step.command
    if (programs / program).exists():
        program = str(programs / program)
    start = time.perf_counter()
    result = subprocess.run([program, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    command = " ".join(Path(part).name if Path(part).is_absolute() else part for part in step.command)
    if result.returncode or step.expected not in result.stdout:
        raise RuntimeError(f"{step.name}: {command}\n{result.stdout}{result.stderr[-3000:]}")
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    return Outcome(step.name, seconds, command, lines[-1].strip() if lines else "")


def bring_along(folder: Path) -> None:
    """Make what a user has: recordings of words, and sounds in one folder per class."""
    (folder / "recordings").mkdir()
    for path in RECORDINGS.glob("*.flac"):
        (folder / "recordings" / path.name).write_bytes(path.read_bytes())
    random = np.random.default_rng(0)
    times = np.arange(int(RATE * DURATION_S)) / RATE
    for label, (first_hz, last_hz) in SOUNDS.items():
        (folder / "sounds" / label).mkdir(parents=True)
        for number in range(NUM_PER_CLASS):
            factor = random.uniform(0.8, 1.25)
            phase = 2 * np.pi * factor * (first_hz * times + (last_hz - first_hz) * times**2 / (2 * DURATION_S))
            sound = 0.3 * np.sin(phase) + random.normal(0, 0.01, len(times))
            soundfile.write(folder / "sounds" / label / f"{number}.wav", sound, RATE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the steps, print each as soon as it is done, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="wheel or sdist")
    parser.add_argument("--until", help="last step to take, such as 'first label'")
    parser.add_argument("--folder", type=Path, help="where to make a folder with 3 GB of space for the run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the seconds of the steps as well")
    args = parser.parse_args(arguments)
    outcomes = []
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        bring_along(folder)
        planned = steps(args.package.resolve(strict=True), write_official_file(find(CHECKPOINT), folder))
        names = [step.name for step in planned]
        if args.until is not None and args.until not in names:
            parser.error(f"--until {args.until!r} is no step; the steps are {', '.join(names)}")
        for step in planned[: names.index(args.until or names[-1]) + 1]:
            try:
                outcomes.append(take(step, folder))
            except RuntimeError as error:
                print(f"FAILED  {error}", file=sys.stderr)
                return 1
            name, seconds, command, result = outcomes[-1]
            print(f"{seconds:7.1f} s  {name:<26}{command[:100]}  ->  {result[:60]}", flush=True)
    print(f"{sum(outcome.seconds for outcome in outcomes):7.1f} s  all of it")
    if args.json:
        args.json.write_text(json.dumps([outcome._asdict() for outcome in outcomes], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
