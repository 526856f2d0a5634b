"""The Python in the README runs as it stands, and the names in it exist."""

import pkgutil
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


# What comes before a checkpoint's name: our commands, TorchOnlyAST's function, and the official arguments
BEFORE_CHECKPOINT = r'(?:convert |show |--as |build_from_pretrained\("|arch="|mdl_path=")'
CHECKPOINT_NAMES = sorted(
    {
        *re.findall(BEFORE_CHECKPOINT + r"([\w./-]*\d[\w./-]*)", README),
        *re.findall(r"MIT/ast-finetuned[\w.-]+", README),
    }
)
CLASS_NAMES = sorted(set(re.findall(r"\b(?:HfAST|SSAST|PaSST)(?:For|Model|Feature|Config|Mel)\w*", README)))
ATTRIBUTES = sorted(set(re.findall(r"\bhf_ast(?:\.[A-Za-z]\w*)+\b(?!_?\*)", README)))


@pytest.mark.parametrize("name", CHECKPOINT_NAMES)
def test_every_checkpoint_that_the_readme_names_is_in_the_registry(name: str) -> None:
    assert find(name).name in CHECKPOINTS


def test_the_number_of_checkpoints_is_that_of_the_registry() -> None:
    numbers = re.findall(r"\b(\d+) (?:files:|checkpoints\b)", README)
    assert set(numbers) == {str(len(CHECKPOINTS))}


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_every_class_that_the_readme_names_exists(name: str) -> None:
    assert isinstance(getattr(hf_ast, name), type)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_everything_of_the_package_that_the_readme_names_exists(name: str) -> None:
    pkgutil.resolve_name(name)
