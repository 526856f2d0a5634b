"""README and documentation: their Python runs, their commands parse, their names exist, their links lead somewhere.

Python runs in the order of a page, and commands that need nothing but recordings run as well. The guides, whose Python
needs what their commands have made, are run by `test_guides.py`.
"""

import pkgutil
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
import typer

import hf_ast
from hf_ast.assets import RECORDINGS
from hf_ast.cli import app, main
from hf_ast.conversion.registry import CHECKPOINTS, find
from tests.support.interpreter import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ALL_PAGES = [
    *PAGES,
    *(ROOT / f"{name}.md" for name in ("BENCHMARKS", "CHANGELOG", "CONTRIBUTING", "RELIABILITY", "SECURITY")),
]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the pages assume: `recordings`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    shutil.copytree(RECORDINGS, "recordings")
    return tmp_path


# They export, train or draw for many seconds
SLOW_PAGES = ("deployment",)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=pytest.mark.slow if page.stem in SLOW_PAGES else ())
        for page in PAGES
        if blocks(page, "python") and page.parent.name != "guides"
    ],
)
def test_python_runs(page: Path, folder: Path) -> None:
    exec("\n".join(blocks(page, "python")), {"__name__": "__main__"})  # they hold their own assertions


COMMANDS = [
    pytest.param(line, id=f"{name_of(page)}-{line.partition('#')[0].strip()}")
    for page in PAGES
    for block in blocks(page, "bash")
    for line in block.replace("\\\n", " ").splitlines()
    if re.search(r"\bhf-ast |-m hf_ast\.cli ", line)
]
# What runs with the embedded model, without a download, and within seconds
OFFLINE = re.compile(r"hf-ast (classify|tag|embed|extract|stats) recordings/\S*(?!.*--model)|hf-ast checkpoints ")


def arguments_of(line: str) -> list[str]:
    return shlex.split(re.split(r"\bhf-ast |-m hf_ast\.cli ", line, maxsplit=1)[1], comments=True)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str, folder: Path) -> None:
    commands = app.build(app.ALL_COMMANDS, "")
    group = typer.main.get_command(commands)
    name, *arguments = arguments_of(line)
    context = typer.Context(group)
    command = group.get_command(context, name)
    assert command is not None, name
    command.make_context(name, arguments, parent=context)  # raises where an option or its value is wrong


@pytest.mark.parametrize("line", [line for line in COMMANDS if OFFLINE.search(str(line.values[0]))])
def test_commands_run(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments_of(line)) == 0
    assert capsys.readouterr().out.strip()


# What comes before a checkpoint's name: our commands, TorchOnlyAST's function, and the official arguments
BEFORE_CHECKPOINT = r'(?:convert |show |--as |build_from_pretrained\("|arch="|mdl_path=")'
CHECKPOINT_NAMES = sorted(
    {
        *re.findall(BEFORE_CHECKPOINT + r"([\w./-]*\d[\w./-]*)", TEXT),
        *re.findall(r"MIT/ast-finetuned[\w.-]+", TEXT),
    }
)
CLASS_NAMES = sorted(set(re.findall(r"\b(?:HfAST|SSAST|PaSST)(?:For|Model|Feature|Config|Mel)\w*", TEXT)))
ATTRIBUTES = sorted(set(re.findall(r"\bhf_ast(?:\.[A-Za-z]\w*)+\b(?!_?\*)", TEXT)))


@pytest.mark.parametrize("name", CHECKPOINT_NAMES)
def test_checkpoints_are_in_the_registry(name: str) -> None:
    assert find(name).name in CHECKPOINTS


def test_the_number_of_checkpoints_is_that_of_the_registry() -> None:
    assert set(re.findall(r"\b(\d+) (?:files:|(?:official )?checkpoints\b)", TEXT)) == {str(len(CHECKPOINTS))}
    numbers = Counter("deit" if "deit" in c.file_name else c.family for c in CHECKPOINTS.values())
    rows = re.findall(r"^\| (\w+) \| (\d+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {name.lower(): int(number) for name, number in rows} == numbers


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_classes_exist(name: str) -> None:
    assert isinstance(getattr(hf_ast, name), type)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_the_package_exist(name: str) -> None:
    pkgutil.resolve_name(name)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if page.exists()], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"
