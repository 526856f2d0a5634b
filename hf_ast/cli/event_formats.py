"""Events of recordings as documents, in the formats of `hf-ast tag`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

from hf_ast.inference.event_formats import (
    CSV_HEADER,
    as_data,
    audacity_lines,
    csv_line,
    csv_lines,
    srt_lines,
    table_lines,
)

from .output import results, show

if TYPE_CHECKING:
    from hf_ast import Event


class Format(StrEnum):
    """Formats of events."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    AUDACITY = "audacity"
    SRT = "srt"


# These do not name the recording, so a document can hold the events of one recording only
ONE_RECORDING = (Format.AUDACITY, Format.SRT)
SUFFIXES = {
    Format.TABLE: ".txt",
    Format.JSON: ".json",
    Format.CSV: ".csv",
    Format.AUDACITY: ".txt",
    Format.SRT: ".srt",
}
LINES: dict[Format, Callable[[str, Sequence["Event"]], Iterator[str]]] = {
    Format.TABLE: table_lines,
    Format.CSV: csv_lines,
    Format.AUDACITY: audacity_lines,
    Format.SRT: srt_lines,
}


@contextmanager
def document(
    file_format: Format, stream: TextIO | None = None
) -> Iterator[Callable[[str, float, Sequence["Event"]], None]]:
    """Write a document with the events of recordings to a stream; to stdout if None.

    The block gets a function that adds a recording: its name, its duration in seconds, and its events.
    """
    if file_format is Format.CSV:
        show(csv_line(CSV_HEADER), stream)
    with results(file_format is Format.JSON, stream) as add:

        def add_recording(file: str, duration_s: float, events: Sequence["Event"]) -> None:
            lines = LINES[file_format](file, events) if file_format in LINES else ()
            add(as_data(file, duration_s, events), lines)

        yield add_recording
