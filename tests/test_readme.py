"""The Python in the README runs as it stands, and the names in it exist."""

import re
from pathlib import Path

import pytest

import hf_ast
from conversion.registry import CHECKPOINTS, find
from tests.support.interpreter import ROOT, run

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[str(i) for i in range(len(BLOCKS))])
def test_readme_snippet_runs(block: str, tmp_path: Path) -> None:
    run(block, cwd=tmp_path)


def test_every_checkpoint_that_the_readme_names_is_in_the_registry() -> None:
    before = r'(?:convert |show |--as |build_from_pretrained\("|arch="|mdl_path=")'
    names = re.findall(before + r"([\w./-]*\d[\w./-]*)", README) + re.findall(r"MIT/ast-finetuned[\w.-]+", README)
    assert len({find(name).name for name in names}) == 11
    assert f"for {len(CHECKPOINTS)} files" in README


def test_every_class_that_the_readme_names_exists() -> None:
    names = set(re.findall(r"\b(?:HfAST|SSAST|PaSST)(?:For|Model|Feature|Config|Mel)\w*", README))
    assert len(names) >= 8
    assert names <= set(hf_ast.__all__)
