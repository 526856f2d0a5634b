"""The Python in the README runs as it stands."""

import re
from pathlib import Path

import pytest
from test_imports import ROOT, run

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[str(i) for i in range(len(BLOCKS))])
def test_readme_snippet_runs(block: str, tmp_path: Path) -> None:
    run(block, cwd=tmp_path)
