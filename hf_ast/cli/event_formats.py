"""Events of recordings as text, in the formats of `hf-ast tag`."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

from hf_ast.text import visible

from .output import results, show

if TYPE_CHECKING:
    from hf_ast import Event

CSV_HEADER = ("file", "start_s", "end_s", "label", "peak")
# Players take these characters for markup, and SRT has no way to escape them
MARKUP = str.maketrans("<>{}", "‹›()")


class Format(StrEnum):
    """Formats of events."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    AUDACITY = "audacity"
    SRT = "srt"


# They do not name the recording, so that a document holds the events of one recording only
ONE_RECORDING = (Format.AUDACITY, Format.SRT)
SUFFIXES = {
    Format.TABLE: ".txt",
    Format.JSON: ".json",
    Format.CSV: ".csv",
    Format.AUDACITY: ".txt",
    Format.SRT: ".srt",
}


@contextmanager
def document(
    file_format: Format, stream: TextIO | None = None
) -> Iterator[Callable[[str, float, Sequence["Event"]], None]]:
    """Write a document with the events of recordings to a stream; to stdout if None.

    The block gets a function that adds a recording: its name, its duration in seconds, and its events.
    """
    if file_format is Format.CSV:
        show(_csv_line(CSV_HEADER), stream)
    with results(file_format is Format.JSON, stream) as add:

        def add_recording(file: str, duration_s: float, events: Sequence["Event"]) -> None:
            data = {"file": file, "duration_s": duration_s, "events": [event._asdict() for event in events]}
            add(data, LINES[file_format](file, events) if file_format in LINES else ())

        yield add_recording


def table_lines(file: str, events: Sequence["Event"]) -> Iterator[str]:
    """Format each event as a line; a recording without events has one that says so."""
    for event in events:
        times = f"{event.start_s:7.2f} - {event.end_s:7.2f} s"
        yield f"{visible(file)}  {times}  {event.peak:6.1%}  {visible(event.label)}"
    if not events:
        yield f"{visible(file)}  no events"


def csv_lines(file: str, events: Sequence["Event"]) -> Iterator[str]:
    """Format each event as a row of `CSV_HEADER`."""
    for event in events:
        yield _csv_line((file, f"{event.start_s:.3f}", f"{event.end_s:.3f}", event.label, f"{event.peak:.4f}"))


def audacity_lines(file: str, events: Sequence["Event"]) -> Iterator[str]:
    """Format each event as a line of an Audacity label track: start, end and label, separated by tabs."""
    for event in events:
        yield f"{event.start_s:.6f}\t{event.end_s:.6f}\t{_one_line(event.label)}"


def srt_lines(file: str, events: Sequence["Event"]) -> Iterator[str]:
    """Format each event as a subtitle: its number, its times, its label, and an empty line."""
    for number, event in enumerate(events, start=1):
        yield str(number)
        yield f"{srt_time(event.start_s)} --> {srt_time(event.end_s)}"
        yield _one_line(event.label).translate(MARKUP)
        yield ""


LINES: dict[Format, Callable[[str, Sequence["Event"]], Iterator[str]]] = {
    Format.TABLE: table_lines,
    Format.CSV: csv_lines,
    Format.AUDACITY: audacity_lines,
    Format.SRT: srt_lines,
}


def srt_time(seconds: float) -> str:
    """Format a time as HH:MM:SS,mmm."""
    milliseconds = round(1000 * seconds)
    hours, milliseconds = divmod(milliseconds, 3_600_000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"


def _one_line(label: str) -> str:
    """Replace tabs and line breaks, which would end a label, and other control characters."""
    return visible(" ".join(label.split()))


def _csv_line(values: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)  # which quotes what its own line terminator consists of
    return line.getvalue().removesuffix("\r\n")
