"""The versions of transformers and torch that the project supports, one environment after the other.

    python -m tests.benchmarks.versions [--only NAME] [--whole]          # make versions

Each environment is a layer of some packages over the one that runs this, and is deleted afterwards. In it run tests
with the package, or every class is opened by remote code, without the package. Unless the layer has its own torch,
all classes must compute the same bits as here, by the package or by remote code.

At last, uv resolves the project beside its neighbours. Prints a table; the exit status is 1 where something failed.

A layer of transformers takes seconds. One of torch takes gigabytes, as far as only CUDA builds are to be had; `--only
transformers` leaves them out. `--whole` runs the whole suite on the highest pair, instead of a part.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import opened
from tests.support.environments import install_tools
from tests.support.hub_cache import put_into_cache
from tests.support.interpreter import ROOT
from tests.support.saved import SAVED, save_all

REMOTE_CODE = ()
SAME_SEED = "test_the_same_seed_gives_the_same_weights_bit_for_bit"
# Registration, Auto classes, pipelines, saving, another length, folders of transformers' own AST, remote code from a
# folder, and steps of `Trainer` and of pretraining
SMOKE = (
    "tests/test_auto.py",
    "tests/test_imports.py",
    "tests/inference/test_pipelines.py",
    "tests/models/test_modeling_ast.py",
    "tests/models/test_remote_code.py",
    f"tests/training/test_steps.py::{SAME_SEED}",
    f"tests/training/test_pretraining_steps.py::{SAME_SEED}",
)
REGISTRATION = ("tests/test_golden.py", *SMOKE)
MODELS = ("tests/test_golden.py", "tests/test_auto.py", "tests/models")
GOLDEN = ("tests/test_golden.py",)
# Every dependency in the lowest version that pyproject allows
LOWEST = ("lowest",)
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
    Environment("transformers-5.15", ("transformers==5.15.1", *BEFORE_HUB_2), SMOKE),
    Environment("transformers-5.20", ("transformers==5.20.2",), SMOKE),
    Environment("transformers-5.24", ("transformers==5.24.0",), REGISTRATION),
    Environment("lowest", LOWEST, MODELS),
    Environment("torch-2.11", ("torch==2.11.0",), GOLDEN),
    Environment("torch-2.14", ("torch==2.14.1",), GOLDEN),
    Environment("torch-2.15-highest", ("torch==2.15.0", "transformers==5.24.0"), MODELS),
)
# What people have beside this package, with all extras for users; `transformers` and `torch` are those of today
EXTRAS = ("audio", "cli", "corpus", "demo", "export", "live", "plot", "quant", "ray", "train")
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
                if environment.packages == LOWEST:
                    environment = environment._replace(packages=lowest())
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
        passed, results = True, []
        if not any(package.startswith("torch==") for package in environment.packages):  # others round in other ways
            problems = list(differences(python, folder / "home", saved, package=bool(environment.tests)))
            passed = not problems
            results += problems or [f"{len(SAVED)} folders bit-equal"]
        if environment.tests:
            all_passed, summary = run_tests(python, environment.tests, folder.with_name(f"{folder.name}.log"))
            passed &= all_passed
            results.append(summary)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.perf_counter() - begin) / 60
    print(
        f"{environment.name} | {', '.join(environment.packages)} | {'; '.join(results)} | {minutes:.1f} min",
        flush=True,
    )
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


def differences(python: Path, home: Path, saved: Path, *, package: bool) -> Iterator[str]:
    """What the classes compute in an environment, by the package or by remote code, and not here with the package."""
    sources = ("folder",) if package else ("folder", "hub")
    for name in SAVED:
        put_into_cache(saved / name, home, f"org/{name}")
    program = [python, ROOT / "tests/support/opened.py", home / "out.json"]
    program += ["--package"] if package else ["--hub", "org"]
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
        for source in sources:
            if wrong := [key for key in expected if expected[key] != found[name][source][key]]:
                yield f"{name} from the {source}: {', '.join(wrong)}"
        again = found[name].get("again", {"equal": True, "code": {}})
        if not again["equal"] or not all(again["code"].values()):
            yield f"{name}, saved again"
        shutil.rmtree(saved / f"{name}-again", ignore_errors=True)


def run_tests(python: Path, tests: tuple[str, ...], log: Path) -> tuple[bool, str]:
    """Run tests in an environment; whether all passed, and the last line with the names of those that did not.

    The log, which stays, tells test by test what passed before a run was cut short.
    """
    command = [python, "-m", "pytest", "-v", "--no-header", "--tb=short", "--show-capture=no", *tests]
    with log.open("w", encoding="utf-8") as out:
        subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    lines = log.read_text(encoding="utf-8").splitlines() or ["no output"]
    failed = [line.partition(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return not failed and "passed" in lines[-1], "; ".join([lines[-1].strip("= "), *failed])


def lowest() -> tuple[str, ...]:
    """The lowest version of each dependency that pyproject allows, and a version of tokenizers that goes with them."""
    found = compile_requirements(project()["dependencies"], "--resolution", "lowest-direct")
    names = [re.split("[<>=]", line)[0].replace("_", "-") for line in project()["dependencies"]]
    return tuple(line for line in found if line.partition("==")[0] in (*names, "tokenizers"))


def resolve(neighbour: str) -> bool:
    """Whether the project can be installed beside a package and the transformers and torch of today, as they are."""
    extras = [line for name in EXTRAS for line in project()["optional-dependencies"][name] if "hf-ast" not in line]
    names = ("torch", "transformers", "huggingface-hub", neighbour.replace(".", "-"))
    try:
        found = compile_requirements([*project()["dependencies"], *extras, *TODAY, *filter(None, [neighbour])])
        text, is_possible = ", ".join(line for line in found if line.partition("==")[0] in names), True
    except subprocess.CalledProcessError as error:
        text, is_possible = error.stderr.strip().splitlines()[-1], False
    print(f"beside {neighbour or 'the newest'} | {', '.join(TODAY)} | {text} | -", flush=True)
    return is_possible


def project() -> dict[str, Any]:
    """The table of pyproject."""
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return content


def compile_requirements(requirements: list[str], *options: str) -> list[str]:
    """All packages that some requirements lead to, as "name==version", by uv; an error where there is no way."""
    uv = install_tools(ROOT / "build/tools", "uv") / "uv"
    command = [uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", "3.11", *options, "-"]
    result = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main())
