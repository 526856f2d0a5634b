"""The versions of transformers and torch that the project supports, one environment after the other.

    python -m tests.benchmarks.versions [--only NAME] [--whole]          # make versions

Each environment is a layer of some packages over the one that runs this, and is deleted afterwards. In it run tests
with the package, or every class is opened by remote code, without the package, and must compute the same bits as here.
At last, uv resolves the project beside its neighbours. Prints a table; the exit status is 1 where something failed.

A layer of transformers takes seconds. One of torch takes gigabytes, as far as only CUDA builds are to be had; `--only
transformers` leaves them out. `--whole` runs the whole suite on the highest pair, instead of a part.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import opened
from tests.support.environments import install_tools
from tests.support.hub_cache import put_into_cache
from tests.support.interpreter import ROOT
from tests.support.saved import SAVED, save_all

REMOTE_CODE = ()
REGISTRATION = (
    "tests/test_golden.py",
    "tests/test_auto.py",
    "tests/test_imports.py",
    "tests/models/test_remote_code.py",
)
MODELS = ("tests/test_golden.py", "tests/test_auto.py", "tests/models")
GOLDEN = ("tests/test_golden.py",)
BEFORE_HUB_2 = ("huggingface_hub==1.33.0", "tokenizers==0.22.1")


class Environment(NamedTuple):
    """Packages that lie over those of the environment that runs, and the tests; none for remote code."""

    name: str
    packages: tuple[str, ...]
    tests: tuple[str, ...] = REMOTE_CODE


ENVIRONMENTS = (
    # `datasets` of today, which Trainer imports, needs a newer huggingface_hub
    Environment(
        "transformers-4.57-remote",
        ("transformers==4.57.6", "huggingface_hub==0.36.0", "tokenizers==0.22.1", "datasets==4.4.1"),
    ),
    *(
        Environment(f"transformers-{version[:-2]}-remote", (f"transformers=={version}", *BEFORE_HUB_2))
        for version in ("5.0.0", "5.1.0", "5.3.0", "5.5.4", "5.9.0")
    ),
    Environment("transformers-5.24-remote", ("transformers==5.24.0",)),
    Environment("transformers-5.10", ("transformers==5.10.4", *BEFORE_HUB_2), REGISTRATION),
    Environment("transformers-5.15", ("transformers==5.15.1", *BEFORE_HUB_2), REGISTRATION),
    Environment("transformers-5.20", ("transformers==5.20.2",), REGISTRATION),
    Environment("transformers-5.24", ("transformers==5.24.0",), REGISTRATION),
    Environment("torch-2.9-lowest", ("torch==2.9.1", "transformers==5.10.4", *BEFORE_HUB_2), MODELS),
    Environment("torch-2.11", ("torch==2.11.0",), GOLDEN),
    Environment("torch-2.14", ("torch==2.14.1",), GOLDEN),
    Environment("torch-2.15-highest", ("torch==2.15.0", "transformers==5.24.0"), MODELS),
)
# What people have beside this package; `transformers` and `torch` are those of today
NEIGHBOURS = ("", "sentence-transformers", "peft", "pyannote.audio", "timm", "datasets")
TODAY = ("transformers==5.24.0", "torch==2.15.0")


def main() -> int:
    """Make the environments, run what is to run in each, print a row of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build/versions", help="of the environments")
    parser.add_argument("--only", default="", help="environments whose name begins with it, or 'neighbours'")
    parser.add_argument("--whole", action="store_true", help="the whole suite on the highest pair")
    args = parser.parse_args()
    is_good = True
    saved = save_all(args.folder / "saved")
    try:
        for environment in ENVIRONMENTS:
            if environment.name.startswith(args.only):
                if args.whole and environment.name.endswith("highest"):
                    environment = environment._replace(tests=("tests",))
                is_good &= show(environment, args.folder / environment.name, saved)
        if "neighbours".startswith(args.only):
            results = [resolve(neighbour) for neighbour in NEIGHBOURS]
            is_good &= all(results)
    finally:
        shutil.rmtree(args.folder / "saved")
    return int(not is_good)


def show(environment: Environment, folder: Path, saved: Path) -> bool:
    """Run what is to run in an environment, and print a row; whether it passed."""
    begin = time.perf_counter()
    try:
        python = make(folder, environment.packages)
        if environment.tests:
            passed, result = run_tests(python, environment.tests)
        else:
            problems = list(differences(python, folder / "home", saved))
            passed, result = not problems, "; ".join(problems) or f"{len(SAVED)} classes bit-equal, folder and Hub id"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.perf_counter() - begin) / 60
    print(f"{environment.name} | {', '.join(environment.packages)} | {result} | {minutes:.1f} min", flush=True)
    return passed


def make(folder: Path, packages: tuple[str, ...]) -> Path:
    """Make an environment that sees the packages of this one behind its own; its Python."""
    venv.create(folder, clear=True, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    behind = [path for path in sys.path if path.endswith("site-packages")]
    (site / "behind.pth").write_text("\n".join([str(ROOT), *behind]) + "\n")
    pip = [install_tools(ROOT / "build/tools", "uv") / "uv", "pip", "install", "-q", "--target", site]
    # A CUDA build of torch needs the libraries of its release
    alone = [package for package in packages if not package.startswith("torch==")]
    whole = [package for package in packages if package.startswith("torch==")]
    for names, options in ((whole, ()), (alone, ("--no-deps",))):
        if names:
            subprocess.run([*pip, "--python", sys.executable, *options, *names], check=True)
    return folder / "bin" / "python"


def differences(python: Path, home: Path, saved: Path) -> Iterator[str]:
    """What the classes compute by remote code in an environment, and not here with the package."""
    for name in SAVED:
        put_into_cache(saved / name, home, f"org/{name}")
    program = [python, ROOT / "tests/support/opened.py", home / "out.json", "--hub", "org"]
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [*program, *(saved / name for name in SAVED)], env=environment, capture_output=True, text=True
    )
    if result.returncode:
        yield result.stderr.strip().splitlines()[-1]
        return
    found = json.loads((home / "out.json").read_text())
    for name in SAVED:
        expected = json.loads(json.dumps(opened.opened(str(saved / name), opened.clips(saved / name))))
        for source in ("folder", "hub"):
            if wrong := [key for key in expected if expected[key] != found[name][source][key]]:
                yield f"{name} from the {source}: {', '.join(wrong)}"
        again = found[name].get("again", {"equal": True, "code": {}})
        if not again["equal"] or not all(again["code"].values()):
            yield f"{name}, saved again"
        shutil.rmtree(saved / f"{name}-again", ignore_errors=True)


def run_tests(python: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Run tests in an environment; whether all passed, and the last line with the names of those that did not."""
    command = [python, "-m", "pytest", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", *tests]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines() or ["no output"]
    failed = [line.partition(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return not failed and "passed" in lines[-1], "; ".join([lines[-1].strip("= "), *failed])


def resolve(neighbour: str) -> bool:
    """Whether the project can be installed beside a package and the transformers and torch of today, as they are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *TODAY, *filter(None, [neighbour])]
    uv = install_tools(ROOT / "build/tools", "uv") / "uv"
    command = [uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", "3.11", "-"]
    result = subprocess.run(command, input="\n".join(wanted), capture_output=True, text=True)
    names = ("torch", "transformers", "huggingface-hub", neighbour.replace(".", "-"))
    found = [line for line in result.stdout.splitlines() if line.partition("==")[0] in names]
    text = ", ".join(found) if not result.returncode else result.stderr.strip().splitlines()[-1]
    print(f"beside {neighbour or 'the newest'} | {', '.join(TODAY)} | {text} | -", flush=True)
    return result.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
