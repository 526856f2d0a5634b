"""The wheel alone, installed into an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

from hf_ast.assets import RECORDINGS
from tests.support.interpreter import ROOT


def test_the_wheel_alone_classifies_a_file(tmp_path: Path) -> None:
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
    recording = RECORDINGS / "yes.flac"
    code = f"import hf_ast, hf_ast.cli; print(hf_ast.__file__); hf_ast.cli.main(['classify', {str(recording)!r}])"
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert Path(result.stdout.splitlines()[0]).is_relative_to(site)
    assert "yes" in result.stdout.splitlines()[-1].split()[3]
