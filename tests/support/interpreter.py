"""Code run by a fresh Python process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hf_ast"

# Refuses to import a package, as if it were not installed
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked)", name=name)
sys.meta_path.insert(0, Block())
"""


def run(code: str, *, without: tuple[str, ...] = (), **kwargs: object) -> str:
    """Standard output of a fresh process."""
    code = BLOCK.format(names=without) + code
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **kwargs)
    assert result.returncode == 0, result.stderr
    return result.stdout
