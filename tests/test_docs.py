"""The Python of every page of the documentation runs as it stands, in the order of the page."""

import re
import shutil
from pathlib import Path

import pytest

from hf_ast.assets import RECORDINGS
from tests.support.interpreter import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    shutil.copytree(RECORDINGS, "recordings")
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert snippets
    exec("\n".join(snippets), {})  # they hold their own assertions
