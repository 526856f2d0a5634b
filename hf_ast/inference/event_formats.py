"""Events of recordings as text: rows of tables, CSV, Audacity and SRT, and data for JSON."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hf_ast.text import visible

if TYPE_CHECKING:  # `hf-ast --help` imports this file, but not torch
    from .events import Event

CSV_HEADER = ("file", "start_s", "end_s", "label", "peak")
# Players take these characters for markup, and SRT has no way to escape them
MARKUP = str.maketrans("<>{}", "‹›()")


def as_data(file: str, duration_s: float, events: Sequence["Event"]) -> dict[str, Any]:
    """Return the events of a recording as data for JSON."""
    return {"file": file, "duration_s": duration_s, "events": [event._asdict() for event in events]}


def table_lines(file: str, events: Sequence["Event"]) -> Iterator[str]:
    """Format each event as a line; a recording without events gets one that says so."""
    for event in events:
        times = f"{event.start_s:7.2f} - {event.end_s:7.2f} s"
        yield f"{visible(file)}  {times}  {event.peak:6.1%}  {visible(event.label)}"
    if not events:
        yield f"{visible(file)}  no events"


def csv_lines(file: str, events: Sequence["Event"]) -> Iterator[str]:
    """Format each event as a row of `CSV_HEADER`."""
    for event in events:
        yield csv_line((file, f"{event.start_s:.3f}", f"{event.end_s:.3f}", event.label, f"{event.peak:.4f}"))


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


def srt_time(seconds: float) -> str:
    """Format a time as HH:MM:SS,mmm."""
    milliseconds = round(1000 * seconds)
    hours, milliseconds = divmod(milliseconds, 3_600_000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"


def _one_line(label: str) -> str:
    """Replace tabs and line breaks, which would end a label, and other control characters."""
    return visible(" ".join(label.split()))


def csv_line(values: Sequence[str]) -> str:
    """Format a row of CSV, without the end of the line."""
    line = io.StringIO()
    csv.writer(line).writerow(values)  # it quotes the characters of its own line terminator
    return line.getvalue().removesuffix("\r\n")
