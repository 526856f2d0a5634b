"""The wheel alone, installed into an empty folder."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hf_ast.assets import RECORDINGS
from tests.support.interpreter import ROOT

SOURCES = ("hf_ast",)
FILES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore")


def build_wheel(source: Path, folder: Path) -> Path:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(build, check=True, capture_output=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_the_same_sources_give_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Byte for byte, wherever they lie, whenever they were written, and in whatever order the disk lists them."""
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in reversed(SOURCES):
        shutil.copytree(
            ROOT / name, copy / name, copy_function=shutil.copy, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    again = build_wheel(copy, tmp_path / "wheel")
    assert again.name == wheel.name
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_the_wheel_alone_has_the_commands(wheel: Path, tmp_path: Path) -> None:
    """Everything that the package needs is in the wheel: installed into an empty folder, run from another."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:  # which is how a wheel of Python files is installed
        archive.extractall(site)
    recording = str(RECORDINGS / "yes.flac")
    code = f"""
import hf_ast
from hf_ast.cli import main
print(hf_ast.__file__)
assert main(["classify", {recording!r}]) == 0
assert main(["checkpoints", "ssast-tiny-patch-400", "--json"]) == 0
"""
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    file, labels, *checkpoints = result.stdout.splitlines()
    assert Path(file).is_relative_to(site)
    assert labels.split()[:2] == [recording, "yes"]
    assert json.loads("".join(checkpoints))[0]["family"] == "ssast"
