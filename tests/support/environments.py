"""Environments apart from the one that runs, for tools that do not belong into it."""

import subprocess
import venv
from pathlib import Path


def install_tools(folder: Path, *packages: str) -> Path:
    """Install packages into an environment of their own, unless it is there; the folder of its commands."""
    commands = folder / "bin"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([commands / "pip", "install", "-q", *packages], check=True)
        (folder / "installed").touch()
    return commands
