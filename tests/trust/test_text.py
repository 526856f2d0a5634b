"""Names of files and labels that try to be more than text, in terminals, tables, subtitles and model cards."""

import csv
import html
import io
import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from hf_ast import Event, HfASTFeatureExtractor
from hf_ast.cli.errors import report
from hf_ast.cli.event_formats import Format, document
from hf_ast.cli.output import show, show_table
from hf_ast.data.labelled import Clip, LabelledData
from hf_ast.data.sources import Source
from hf_ast.inference.event_formats import Heard
from hf_ast.text import code, markdown, visible
from hf_ast.training.cards import TrainingFacts, render_card
from hf_ast.training.presets import PRESETS
from tests.support.cases import cases
from tests.support.tiny import tiny_model

PARTS = st.sampled_from(
    [
        *("\x1b[31m", "\x1b]0;title\x07", "\r", "\n", "\t", "\x00", "\x85", "\u2028", "\u202e", "|", "`", "```", "ä"),
        *("\n---\n", "\n\n# head\n", "[a](javascript:b)", "![x](http://y)", "*b*", "{{ 7*7 }}", "{% raw %}", "=cmd()"),
        *("<script>alert(1)</script>", "<!--", "&amp;", "!!python/object:os.system", ": ", "- ", "'", '"', "\\"),
        "00:00:01,000 --> 00:00:02,000",
    ]
)
NAMES = st.lists(st.one_of(PARTS, st.text(max_size=4)), min_size=1, max_size=4).map("".join)
IS_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@cases(4, name=NAMES)
def test_in_one_line(name: str) -> None:
    for shown in (visible(name), markdown(name), code(name)):
        assert not IS_CONTROL.search(shown)
    assert not re.search(r"[`\"'|<>\\]", code(name).replace("\\x", "").replace("\\u", ""))
    # Nothing of Markdown or HTML is left that no backslash stands before, and nothing of the name is lost
    assert not re.search(r"(?<!\\)[|`*_\[\]<>]", re.sub(r"\\\\", "", markdown(name)))
    assert html.unescape(re.sub(r"\\(.)", r"\1", markdown(name))) == visible(name)
    terminal = Terminal()
    show(name, terminal)
    assert not IS_CONTROL.search(terminal.getvalue().replace("\n", "").replace("\t", ""))


@cases(4, label=NAMES, file=NAMES, file_format=st.sampled_from(list(Format)))
def test_events(label: str, file: str, file_format: Format) -> None:
    """Each format still has one event, with that label; those that are data give it back exactly."""
    stream = io.StringIO()
    with document(file_format, stream) as add:
        add(Heard(file, 1.0, [Event(label, 0.0, 1.0, 0.9)]))
    text = stream.getvalue()
    if file_format in (Format.DCASE, Format.RAVEN):
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
        assert [len(row) for row in rows] == [len(rows[0])] * 2
        assert not IS_CONTROL.search(rows[1][3 if file_format is Format.DCASE else 8])
    elif file_format is Format.CSV:
        assert list(csv.reader(io.StringIO(text, newline="")))[1][::3] == [file, label]
    elif file_format is Format.JSON:
        assert json.loads(text) == [
            {"file": file, "duration_s": 1.0, "events": [{"label": label, "start_s": 0.0, "end_s": 1.0, "peak": 0.9}]}
        ]
    else:
        lines = text.split("\n")
        assert len(lines) == (5 if file_format is Format.SRT else 2)
        assert not IS_CONTROL.search(text.replace("\n", "").replace("\t", "", 2))
        assert file_format is not Format.SRT or not re.search(r"[<>{}]", lines[2])
        assert file_format is not Format.AUDACITY or text.count("\t") == 2


@cases(0.5, names=st.lists(NAMES, min_size=2, max_size=2))
def test_tables_and_messages(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    show_table([names], ["a", "b"])
    report(names[0].replace("\n", ""))
    captured = capsys.readouterr()
    assert not IS_CONTROL.search((captured.out + captured.err).replace("\n", "").replace("\t", ""))
    assert captured.out.count("\n") == 2


MODEL, FRONT_END = tiny_model(num_labels=2), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)


def card(label: str, folder: str, source: str) -> Any:
    clips = [Clip(name="a", index=0, labels=(0,), split="train", group=None, duration_s=1.0)]
    place = Source(kind="folder", location=f"/data/{folder}")
    data = LabelledData(source=place, clips=clips, labels=[label, "other"], multi_label=False, skipped={})
    preset = next(iter(PRESETS))
    facts = TrainingFacts(
        source=source,
        preset=preset,
        settings=PRESETS[preset],
        num_steps=1,
        seed=0,
        license=None,
        license_is_inherited=False,
        best_step=None,
    )
    return render_card(MODEL, FRONT_END, data, None, None, facts, repo_id=f"me/{folder}")


@cases(0.5, label=NAMES, folder=NAMES.map(lambda name: name.replace("/", "").replace("\0", "") or "x"), source=NAMES)
def test_model_cards(label: str, folder: str, source: str) -> None:
    """The same lines and the same metadata as with harmless names."""
    expected, text = str(card("dog", "data", "ast")), str(card(label, folder, source.replace("\0", "")))
    _, metadata, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    _, plain, plain_body = re.split(r"^---$", expected, maxsplit=2, flags=re.MULTILINE)
    assert yaml.safe_load(metadata).keys() - {"base_model"} == yaml.safe_load(plain).keys()
    assert body.count("\n") == plain_body.count("\n")
    assert body.count("```") == plain_body.count("```")
    assert not re.search("<script|<!--", body)
    row = next(line for line in body.split("\n") if line.startswith(f"| {markdown(label)} |"))
    assert len(re.findall(r"(?<!\\)\|", re.sub(r"\\\\", "", row))) == 3
