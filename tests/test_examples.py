"""The scripts in `examples/` do what they say."""

import csv
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForAudioClassification

from hf_ast.assets import RECORDINGS
from hf_ast.conversion.registry import find
from tests.support.interpreter import ROOT
from tests.support.official_files import write_official_file

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run_example(name: str, *arguments: str) -> Any:
    return runpy.run_path(str(ROOT / "examples" / name))["main"](*arguments)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 40


def test_label_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words" / "more").mkdir(parents=True)
    for name in ("words/yes.flac", "words/more/stop.flac"):
        shutil.copy(RECORDINGS / Path(name).name, tmp_path / name)
    (tmp_path / "words" / "notes.txt").write_text("no audio")
    run_example("label_folder.py", str(tmp_path / "words"), str(tmp_path / "labels.csv"))
    rows = list(csv.DictReader((tmp_path / "labels.csv").open(newline="")))
    best = {row["file"]: row["label"] for row in reversed(rows)}
    assert best == {"yes.flac": "yes", "more/stop.flac": "stop"}
    assert len(rows) == 2 * 3
    assert "notes.txt" in capsys.readouterr().err


def test_fine_tune(tmp_path: Path) -> None:
    assert run_example("finetune.py", str(tmp_path)) > 0.95  # tones and noises are easily told apart
    assert AutoModelForAudioClassification.from_pretrained(tmp_path).config.id2label == {0: "tone", 1: "noise"}


def test_convert_a_file(tmp_path: Path) -> None:
    file = write_official_file(find("ssast-tiny-patch-400"), tmp_path)
    model = run_example("convert_file.py", str(file), "SSAST-Tiny-Patch-400", str(tmp_path / "out"))
    assert (type(model).__name__, model.config.hidden_size) == ("SSASTModel", 192)
    with pytest.raises(ValueError, match=r"has shape .*, the config describes"):
        run_example("convert_file.py", str(file), "SSAST-Base-Patch-400", str(tmp_path / "wrong"))
