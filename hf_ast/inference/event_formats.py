"""Events of recordings as text: rows of tables, CSV, Raven, DCASE, Audacity and SRT, and data for JSON."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hf_ast.text import visible

if TYPE_CHECKING:  # `hf-ast --help` imports this file, but not torch
    from .events import Event

CSV_HEADER = ("file", "start_s", "end_s", "label", "peak")
DCASE_HEADER = ("filename", "onset", "offset", "event_label")
RAVEN_HEADER = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)", "Begin File",
    "Annotation", "Score",
)  # fmt: skip
# Players take these characters for markup, and SRT has no way to escape them
MARKUP = str.maketrans("<>{}", "‹›()")


class Heard(NamedTuple):
    """What is heard in a recording; `highest_hz`, up to which the model hears, is for Raven only."""

    file: str
    duration_s: float
    events: "Sequence[Event]"
    highest_hz: float = 0.0


def as_data(heard: Heard) -> dict[str, Any]:
    """Return the events of a recording as data for JSON."""
    events = [event._asdict() for event in heard.events]
    return {"file": heard.file, "duration_s": heard.duration_s, "events": events}


def table_lines(heard: Heard) -> Iterator[str]:
    """Format each event as a line; a recording without events gets one that says so."""
    for event in heard.events:
        times = f"{event.start_s:7.2f} - {event.end_s:7.2f} s"
        yield f"{visible(heard.file)}  {times}  {event.peak:6.1%}  {visible(event.label)}"
    if not heard.events:
        yield f"{visible(heard.file)}  no events"


def csv_lines(heard: Heard) -> Iterator[str]:
    """Format each event as a row of `CSV_HEADER`."""
    for event in heard.events:
        yield delimited((heard.file, *_times(event), event.label, f"{event.peak:.6f}"))


def dcase_lines(heard: Heard) -> Iterator[str]:
    """Format each event as a row of `DCASE_HEADER`; a recording without events gets one with its name only."""
    for event in heard.events:
        yield delimited((heard.file, *_times(event), _one_line(event.label)), "\t")
    if not heard.events:
        yield delimited((heard.file, "", "", ""), "\t")


def raven_lines(heard: Heard) -> Iterator[str]:
    """Format each event as a selection of Raven, a row of `RAVEN_HEADER` that spans all that the model hears."""
    for number, event in enumerate(heard.events, start=1):
        place = (str(number), "Spectrogram 1", "1", *_times(event), "0", f"{heard.highest_hz:g}")
        name = _one_line(re.split(r"[/\\]", heard.file)[-1])
        yield delimited((*place, name, _one_line(event.label), f"{event.peak:.6f}"), "\t")


def audacity_lines(heard: Heard) -> Iterator[str]:
    """Format each event as a line of an Audacity label track: start, end and label, separated by tabs."""
    for event in heard.events:
        yield "\t".join((*_times(event), _one_line(event.label)))


def srt_lines(heard: Heard) -> Iterator[str]:
    """Format each event as a subtitle: its number, its times, its label, and an empty line."""
    for number, event in enumerate(heard.events, start=1):
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


def _times(event: "Event") -> tuple[str, str]:
    """To a microsecond: less than a sample, and more than any tool shows."""
    return f"{event.start_s:.6f}", f"{event.end_s:.6f}"


def _one_line(label: str) -> str:
    """Replace tabs and line breaks, which would end a label, and other control characters."""
    return visible(" ".join(label.split()))


def delimited(values: Sequence[str], delimiter: str = ",") -> str:
    """Format a row of CSV, or of another table, without the end of the line."""
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter).writerow(values)  # it quotes the characters of its own line terminator
    return line.getvalue().removesuffix("\r\n")
