"""What the columns of a table mean: paths, labels, and the times of segments."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

# Names as `folded` returns them, in the order in which they are looked for. Those of `datasets`, ESC-50, the official
# AST code, NeMo, FSD50K, UrbanSound8K and Raven are among them
PATH_COLUMNS = (
    *(
        "path",
        "file",
        "audio",
        "file_name",
        "filename",
        "wav",
        "audio_filepath",
        "filepath",
        "file_path",
        "audio_file",
    ),
    *("audio_path", "wav_path", "recording", "fname", "slice_file_name", "begin_path", "begin_file"),
)
LABEL_COLUMNS = (
    *("label", "labels", "category", "class", "target", "event_label", "event_labels", "positive_labels", "command"),
    *("annotation", "species", "common_name", "primary_label", "class_name", "label_name", "instrument"),
)
IDENTIFIERS = ("ytid", "segment_id", "sample_key", "selection", "view")
_PREFIX = r"(?:(?:segment|event|clip|annotation|call|audio)_)?"
_WHAT = r"(?P<what>start|onset|begin|offset|end|stop|duration|dur|length)"
_UNIT = (
    r"(?P<unit>s|secs?|seconds?|ms|msecs?|millis|milliseconds?|samples?|frames?|index|idx|mins?|minutes?|h|hours?|us)"
)
TIME = re.compile(rf"{_PREFIX}(?:(?P<first>samples?|frames?)_)?{_WHAT}(?:_?times?)?(?:_(?:in_)?{_UNIT})?")
TIME_LAST = re.compile(rf"(?:t|time)_?{_WHAT}(?:_{_UNIT})?")
START, END, DURATION = ("start", "onset", "begin"), ("end", "stop"), ("duration", "dur", "length")


@cache
def known_columns() -> frozenset[str]:
    """Names that tell a header from other lines."""
    return frozenset((*PATH_COLUMNS, *LABEL_COLUMNS, *IDENTIFIERS, "begin_time_s", "start_seconds", "onset"))


def folded(name: Any) -> str:
    """Return the name of a column in one spelling: "Begin Time (s)" is "begin_time_s"."""
    return re.sub(r"[\W_]+", "_", str(name).casefold()).strip("_")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, or a text with one."""
    return number_in(value) is not None


def number_in(value: Any) -> float | None:
    """Return the finite number that a value is, or that its text says; else None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or a text without a character that can be seen."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


@dataclass(frozen=True, kw_only=True)
class Times:
    """The columns of the times of segments.

    Attributes:
        start: Column of where they begin.
        end: Column of where they end, or of how long they last.
        is_duration: Whether it is how long they last.
        start_unit_s, end_unit_s: Unit of the columns, in seconds.
    """

    start: str
    end: str
    is_duration: bool
    start_unit_s: float = 1.0
    end_unit_s: float = 1.0

    def of(self, row: Mapping[str, Any]) -> tuple[float, float] | None:
        """Return where the segment of a row begins and ends, in seconds; None if the row has no times.

        Raises:
            ValueError: They are not numbers, or not those of a segment; the message goes on behind "it".
        """
        values = row.get(self.start), row.get(self.end)
        if all(map(is_missing, values)):
            return None
        for column, value in zip((self.start, self.end), values, strict=True):
            if not is_number(value):
                raise ValueError(f"has {value!r} instead of a number of seconds in the column {column!r}")
        start_s = number_in(values[0]) * self.start_unit_s  # type: ignore[operator]
        end_s = number_in(values[1]) * self.end_unit_s  # type: ignore[operator]
        return checked_segment(start_s, start_s + end_s if self.is_duration else end_s)


def checked_segment(start_s: float, end_s: float) -> tuple[float, float]:
    """Return the times of a segment; raise a ValueError, behind "it", if there can be no such segment."""
    # Sums of decimal fractions: 0.1 + 0.2 is to be 0.3, as the same segment may be named by its end elsewhere
    start_s, end_s = round(start_s, 9), round(end_s, 9)
    if start_s < 0:
        raise ValueError(f"begins at {start_s:g} s, before the recording")
    if end_s == start_s:
        raise ValueError(f"has no length: it begins and ends at {start_s:g} s")
    if end_s < start_s:
        raise ValueError(f"ends at {end_s:g} s, before it begins at {start_s:g} s")
    return start_s, end_s


def times_in(columns: Sequence[str], location: str) -> Times | None:
    """Return which columns are the times of segments; None if the rows are whole recordings.

    Raises:
        ValueError: The columns leave open what is meant.
    """
    found: dict[str, dict[str, float | None]] = {}
    for column in columns:
        match = TIME.fullmatch(folded(column)) or TIME_LAST.fullmatch(folded(column))
        if match:
            groups = match.groupdict()
            unit = groups.get("first") or groups["unit"] or "s"
            found.setdefault(groups["what"], {})[column] = _unit_s(unit)
    starts = _of(found, START)
    ends, durations = _of(found, END), _of(found, DURATION)
    offsets = found.get("offset", {})
    if not starts and offsets and (ends or durations):  # NeMo: where the segment begins
        starts = offsets
    elif "onset" in found and not ends:  # DCASE: where it ends
        ends = offsets
    if not starts:
        if ends:
            raise _question(location, [*ends], "says where something ends, but no column says where it begins")
        return None
    if not ends and not durations:
        raise _question(location, [*starts], "says where something begins, but no column says where it ends")
    start, end = _only(starts, location), _only(ends or durations, location)
    return Times(start=start[0], end=end[0], is_duration=not ends, start_unit_s=start[1], end_unit_s=end[1])


def _unit_s(unit: str) -> float | None:
    if unit[0] == "s" and not unit.startswith("sample"):
        return 1.0
    return 1e-3 if unit.startswith(("ms", "milli")) else None


def _of(found: Mapping[str, dict[str, float | None]], names: Sequence[str]) -> dict[str, float | None]:
    return {column: unit_s for name in names for column, unit_s in found.get(name, {}).items()}


def _only(candidates: Mapping[str, float | None], location: str) -> tuple[str, float]:
    """Return the one column among candidates, with its unit: in seconds, if there is one in seconds."""
    usable = {column: unit_s for column, unit_s in candidates.items() if unit_s is not None}
    in_seconds = {column: unit_s for column, unit_s in usable.items() if unit_s == 1.0} or usable
    if not usable:
        raise _question(location, [*candidates], "is neither in seconds nor in milliseconds")
    if len(in_seconds) > 1:
        raise _question(location, [*in_seconds], "may each be meant")
    return next(iter(in_seconds.items()))


def _question(location: str, columns: Sequence[str], what: str) -> ValueError:
    names = " and ".join(map(repr, columns))
    return ValueError(
        f"source={location!r} has the column{'s' * (len(columns) > 1)} {names}, which {what}. If its rows are "
        "segments, give `start_s` and `end_s` in seconds; if they are whole recordings, say so with whole_files=True "
        "(--whole-files)."
    )
