"""The wheel alone, installed into an empty folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

from hf_ast.assets import RECORDINGS
from tests.support.interpreter import ROOT


def test_the_wheel_alone_has_the_commands(tmp_path: Path) -> None:
    """Everything that the package needs is in the wheel: installed into an empty folder, run from another."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
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
