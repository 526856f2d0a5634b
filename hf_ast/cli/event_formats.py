"""Events of recordings as documents, in the formats of `hf-ast tag`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Layout:
    """How a document in a format looks.

    Attributes:
        suffix: Of the file.
        lines: What writes a recording, from its name and its events; None for data.
        header: First line of a document; None if there is none.
        one_recording: Whether a document can hold the events of one recording only, because it does not name it.
    """

    suffix: str
    lines: Callable[[str, Sequence["Event"]], Iterator[str]] | None
    header: str | None = None
    one_recording: bool = False


LAYOUTS = {
    Format.TABLE: Layout(".txt", table_lines),
    Format.JSON: Layout(".json", None),
    Format.CSV: Layout(".csv", csv_lines, header=csv_line(CSV_HEADER)),
    Format.AUDACITY: Layout(".txt", audacity_lines, one_recording=True),
    Format.SRT: Layout(".srt", srt_lines, one_recording=True),
}


@contextmanager
def document(
    file_format: Format, stream: TextIO | None = None
) -> Iterator[Callable[[str, float, Sequence["Event"]], None]]:
    """Write a document with the events of recordings to a stream; to stdout if None.

    The block gets a function that adds a recording: its name, its duration in seconds, and its events.
    """
    layout = LAYOUTS[file_format]
    if layout.header is not None:
        show(layout.header, stream)
    with results(layout.lines is None, stream) as add:

        def add_recording(file: str, duration_s: float, events: Sequence["Event"]) -> None:
            add(as_data(file, duration_s, events), layout.lines(file, events) if layout.lines else ())

        yield add_recording
