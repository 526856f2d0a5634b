"""The table of formats: by its signatures, and as the page shows it."""

import re
from pathlib import Path

import pytest

from hf_ast.data.formats import FORMATS, SUFFIXES, find_format, id3_bytes, looks_like_media

RECORDINGS = Path(__file__).parent / "recordings"
PAGE = Path(__file__).parents[2] / "docs" / "recordings.md"


def test_a_suffix_belongs_to_one_format() -> None:
    suffixes = [suffix for row in FORMATS for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert set(suffixes) == SUFFIXES
    assert {".wav", ".mp3", ".m4a", ".opus", ".webm", ".mov", ".wma", ".amr"} <= SUFFIXES
    assert ".ts" not in SUFFIXES  # TypeScript


@pytest.mark.parametrize(
    "path", [path for path in sorted(RECORDINGS.iterdir()) if path.name not in ("empty.mp3", "page.mp3")]
)
def test_recordings_look_like_media(path: Path) -> None:
    assert looks_like_media(path.read_bytes()[:4096])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"<!DOCTYPE html><html>",
        b"%PDF-1.7\n",
        b"PK\x03\x04\x14\0",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(1000),
        ("path,label\n" * 100).encode("utf-16"),
        b"ID3 is a tag, and this is a text",
        b"FORM\0\0\0\x10ILBM",
        b"#EXTM3U\nhttp://example.com/a.mp3\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
    ],
)
def test_other_files_do_not_look_like_media(head: bytes) -> None:
    assert not looks_like_media(head)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "WAV"),
        (b"\0\0\0\x20ftypM4A ", "MP4"),
        (b"\0\0\0\x08wide\0\0\x10\0mdat", "MP4"),
        (b"#!AMR-WB\n", "AMR"),
        (b"MAC \x96\x0f", "Monkey's Audio"),
        ((b"G" + bytes(187)) * 3, "MPEG-TS"),
        ((bytes(4) + b"G" + bytes(187)) * 3, "MPEG-TS"),
        ((b"\xff\xfb\x90\x64" + bytes(413)) * 2, "MP3"),
        ((b"\xff\xf1\x50\x80\x04\x1f\xfc" + bytes(25)) * 2, "AAC"),
    ],
)
def test_formats_are_known_by_what_files_begin_with(head: bytes, name: str) -> None:
    found = find_format(head)
    assert found is not None
    assert found.name == name


def test_a_tag_is_as_long_as_it_says() -> None:
    assert id3_bytes(b"ID3\x04\0\0\0\0\x01\x02") == 140
    assert id3_bytes(b"ID3\x04\0\x10\0\0\x01\x02") == 150  # with a footer
    assert id3_bytes(b"ID3\x04\0\0\0\0\x01\x80") == 0


def test_the_page_shows_the_table() -> None:
    """The rows with codecs, each of which `test_decoding.py` reads, and the names of the others."""
    text = PAGE.read_text(encoding="utf-8")
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in re.findall(r"^\|.*\|$", text, re.M)]
    shown = {row[0]: row[1:] for row in rows if len(row) == 4}
    for row in FORMATS:
        if row.codecs:
            suffixes = " ".join(row.suffixes)
            decoders = ", then ".join({"soundfile": "libsndfile", "av": "FFmpeg"}[name] for name in row.decoders)
            assert shown.pop(row.name) == (f"`{suffixes}`", row.codecs, decoders)
        else:
            assert f"{row.name} (`{' '.join(row.suffixes)}`)" in " ".join(text.split())
    assert set(shown) == {"format", "---"}
