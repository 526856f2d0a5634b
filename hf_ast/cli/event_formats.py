"""Events of recordings as documents, in the formats of `hf-ast tag`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TextIO

from hf_ast.inference.event_formats import (
    CSV_HEADER,
    DCASE_HEADER,
    RAVEN_HEADER,
    Heard,
    as_data,
    audacity_lines,
    csv_lines,
    dcase_lines,
    delimited,
    raven_lines,
    srt_lines,
    table_lines,
)

from .files import Failure
from .output import results, show


class Format(StrEnum):
    """Formats of events."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    AUDACITY = "audacity"
    DCASE = "dcase"
    RAVEN = "raven"
    SRT = "srt"


@dataclass(frozen=True)
class Layout:
    """How a document in a format looks.

    Attributes:
        suffix: Of the file.
        lines: What writes a recording; None for data.
        header: First line of a document; None if there is none.
        one_recording: Whether a document can hold the events of one recording only, because it does not name it.
    """

    suffix: str
    lines: Callable[[Heard], Iterator[str]] | None
    header: str | None = None
    one_recording: bool = False


LAYOUTS = {
    Format.TABLE: Layout(".txt", table_lines),
    Format.JSON: Layout(".json", None),
    Format.CSV: Layout(".csv", csv_lines, header=delimited(CSV_HEADER)),
    Format.AUDACITY: Layout(".txt", audacity_lines, one_recording=True),
    Format.DCASE: Layout(".tsv", dcase_lines, header=delimited(DCASE_HEADER, "\t")),
    # The name that Raven itself gives
    Format.RAVEN: Layout(
        ".Table.1.selections.txt", raven_lines, header=delimited(RAVEN_HEADER, "\t"), one_recording=True
    ),
    Format.SRT: Layout(".srt", srt_lines, one_recording=True),
}


@dataclass(frozen=True)
class Document:
    """A document that grows by one recording at a time.

    Attributes:
        layout: How it looks.
        result: What prints a result, given as data for JSON and as lines of text.
    """

    layout: Layout
    result: Callable[[Any, Iterable[str]], None]

    def __call__(self, heard: Heard) -> None:
        """Add a recording."""
        lines = self.layout.lines(heard) if self.layout.lines else ()
        self.result(as_data(heard), lines)

    def fail(self, failure: Failure) -> None:
        """Add a recording that has no events because of an error, where the format has a place for it."""
        self.result(failure.as_data(), ())


@contextmanager
def document(file_format: Format, stream: TextIO | None = None) -> Iterator[Document]:
    """Write a document with the events of recordings to a stream; to stdout if None."""
    layout = LAYOUTS[file_format]
    if layout.header is not None:
        show(layout.header, stream)
    with results(layout.lines is None, stream) as result:
        yield Document(layout, result)
