"""The page about corpora: its code runs."""

import re
import shutil
from pathlib import Path

import pytest

from hf_ast.assets import RECORDINGS

PAGE = Path(__file__).parents[2] / "docs" / "corpora.md"


def test_code_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    shutil.copytree(RECORDINGS, "recordings")
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code) == 3
    exec("\n".join(code), {})
