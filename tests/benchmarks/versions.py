"""The lowest and the highest versions that pyproject.toml allows: an environment of each, and the tests in it.

    python -m tests.benchmarks.versions [--folder build/versions] [--only lowest]          # make versions

uv finds the lowest versions that go together, so that a lower bound that it cannot reach is not true. Prints the
versions and the results; the exit status is 1 where a bound is not reached or a test fails. A CUDA build of torch
takes gigabytes; `--torch 2.13.0+cpu` takes that one in all environments, where uv finds it (UV_FIND_LINKS, UV_INDEX).
"""

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.environments import install_tools
from tests.support.interpreter import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEST_TOOLS = ("pytest", "espeakng-loader", "hypothesis", "pandas", "parameterized")
MODELS = ("tests/test_golden.py", "tests/models", "tests/test_auto.py", "tests/cli/test_classify.py")


class Environment(NamedTuple):
    """What is installed, how, and what is run."""

    name: str
    resolution: str
    extras: tuple[str, ...]
    tests: tuple[str, ...]


ENVIRONMENTS = (
    Environment(
        "lowest",
        "lowest-direct",
        ("audio", "cli", "corpus", "export", "plot"),
        (*MODELS, "tests/cli/test_tag.py", "tests/cli/test_extract.py", "tests/export", "tests/plotting"),
    ),
    # By itself, as what `datasets` needs is above the bounds of the others
    Environment(
        "lowest-train",
        "lowest-direct",
        ("train",),
        ("tests/test_golden.py", "tests/training/test_finetune.py", "tests/training/test_lora.py"),
    ),
    Environment(
        "highest",
        "highest",
        ("export", "train"),
        (*MODELS, "tests/cli/test_tag.py", "tests/cli/test_extract.py", "tests/export", "tests/training/test_lora.py"),
    ),
)


def main() -> int:
    """Make the environments, run the tests, print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build/versions", help="of the environments")
    parser.add_argument("--only", choices=[environment.name for environment in ENVIRONMENTS], action="append")
    parser.add_argument("--torch", metavar="VERSION", help="of torch, in all environments")
    args = parser.parse_args()
    uv = install_tools(args.folder / "tools", "uv") / "uv"
    chosen = [environment for environment in ENVIRONMENTS if environment.name in (args.only or [environment.name])]
    lowest: dict[str, tuple[Version, list[Version]]] = {}
    is_good = True
    for environment in chosen:
        python = make(uv, args.folder / environment.name, environment, args.torch)
        rows = bounds(environment, installed(uv, python))
        print(f"\n{environment.name}: {', '.join(f'{name} {found}' for name, _, found in rows)}", flush=True)
        if environment.resolution != "highest":
            for name, bound, found in rows:
                lowest.setdefault(name, (bound, []))[1].append(found)
        tests = run_tests(python, environment.tests)
        print(tests.stdout if tests.returncode else tests.stdout.splitlines()[-1], flush=True)
        is_good &= tests.returncode == 0
    # What one extra needs may be above the bounds of another, which hold without it
    untrue = {name: min(found) for name, (bound, found) in lowest.items() if bound not in found}
    for name, found in untrue.items():
        print(f"{name}: the bound {lowest[name][0]} is not true, {found} is the lowest that goes with the others")
    return 0 if is_good and not untrue else 1


def make(uv: Path, folder: Path, environment: Environment, torch: str | None) -> Path:
    """Make an environment anew; its Python."""
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    install = [uv, "pip", "install", "-q", "--python", python]
    extras = [part for extra in environment.extras for part in ("--extra", extra)]
    pins = [] if torch is None else [f"torch=={torch}"]
    direct = ["--resolution", environment.resolution, "-r", ROOT / "pyproject.toml", *extras, *pins]
    subprocess.run([*install, *direct], check=True)
    subprocess.run([*install, "--no-deps", "-e", ROOT], check=True)
    # In whatever versions go with these
    frozen = subprocess.run(
        [uv, "pip", "freeze", "--exclude-editable", "--python", python], check=True, stdout=subprocess.PIPE
    )
    constraints = folder / "constraints.txt"
    constraints.write_bytes(frozen.stdout)
    subprocess.run([*install, "-c", constraints, *TEST_TOOLS], check=True)
    return python


def installed(uv: Path, python: Path) -> dict[str, Version]:
    """Versions by canonical name."""
    command = [uv, "pip", "list", "--format", "json", "--python", python]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {canonicalize_name(row["name"]): Version(row["version"]) for row in rows}


def requirements(extras: tuple[str, ...]) -> list[Requirement]:
    """What the package and some extras require, and what the extras that those name require."""
    found = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in extras:
        for text in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(text)
            if requirement.name == PROJECT["name"]:
                found += requirements(tuple(sorted(requirement.extras)))
            else:
                found.append(requirement)
    return found


def bounds(environment: Environment, versions: dict[str, Version]) -> list[tuple[str, Version, Version]]:
    """Name, lower bound and version of each direct requirement; 4.66 and 4.66.0 are the same version."""
    rows = {}
    for requirement in requirements(environment.extras):
        bound = next(part.version for part in requirement.specifier if part.operator == ">=")
        public = Version(versions[canonicalize_name(requirement.name)].public)
        rows[requirement.name] = (requirement.name, Version(bound), public)
    return sorted(rows.values())


def run_tests(python: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests in an environment."""
    command = [python, "-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
