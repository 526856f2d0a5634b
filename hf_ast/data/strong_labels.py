"""Recordings with strong labels, which say when something is heard, and with weak ones. Needs the extra `train`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, NamedTuple

from .checking import END_TOLERANCE_S, add_reason, noting
from .entries import Entry, find_entries
from .labelled import Clip, LabelledData, labelled_data
from .sources import as_source
from .splitting import SPLITS

# Label of an event that was marked without saying what it is
UNNAMED = -1


class MarkedEvent(NamedTuple):
    """A class, or `UNNAMED`, and when it is heard in a recording, in seconds."""

    label: int
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class StronglyLabelledData(LabelledData):
    """Recordings, in which events are marked, or which only have labels.

    Attributes:
        events: Name of a recording -> its events, in the order of their starts; none for a recording without events.
        weak: Names of the recordings whose labels have no times.
    """

    events: Mapping[str, tuple[MarkedEvent, ...]] = field(default_factory=dict)
    weak: frozenset[str] = frozenset()

    def with_labels(self, labels: Sequence[str]) -> "StronglyLabelledData":
        """See `LabelledData.with_labels`."""
        moved: Any = super().with_labels(labels)
        numbers = {number: moved.labels.index(label) for number, label in enumerate(self.labels)}
        events = {
            name: tuple(event._replace(label=numbers.get(event.label, UNNAMED)) for event in of_recording)
            for name, of_recording in self.events.items()
        }
        changed: StronglyLabelledData = replace(moved, events=events)
        return changed

    def of_clip(self, clip: Clip) -> tuple[MarkedEvent, ...] | None:
        """Return the events of a recording; None if it only has labels."""
        return None if clip.name in self.weak else self.events[clip.name]

    def describe_events(self) -> Iterator[str]:
        """Say how many events there are, as lines of text."""
        splits = [split for split in SPLITS if self.of(split)]
        for split in splits:
            events = [event for clip in self.of(split) for event in self.of_clip(clip) or ()]
            empty = sum(self.of_clip(clip) == () for clip in self.of(split))
            weak = sum(clip.name in self.weak for clip in self.of(split))
            length = f", median length {median(event.end_s - event.start_s for event in events):.3g} s" * bool(events)
            yield f"{split}: {len(events)} events{length}; {empty} recordings without events, {weak} without times"


def read_events(
    source: Any,
    *,
    subset: str | None = None,
    label_separator: str | None = None,
    validation_fraction: float = 0.2,
    decode: bool = True,
    seed: int = 0,
    progress: bool = False,
    **settings: Any,
) -> StronglyLabelledData:
    """Find recordings whose events are marked, check them, and split them.

    A row with times marks an event. A row without times and without a label says that its recording has no events (as
    in DESED); one without times, but with labels, that its recording has these labels at times that are not known.
    A recording whose selection table or label track has no row has no events, and neither has one without a table,
    beside recordings with theirs; that is said in `warned`. An event without a label makes unknown what is heard
    meanwhile. If one event of a recording cannot be used, because its times are wrong, the recording is not used.

    Args:
        source, subset, label_separator, validation_fraction, decode, seed, progress: As in `read_data`.
        settings: What else `find_entries` takes, as in `read_data`: `label_column`, `audio_folder`, ...

    Raises:
        ValueError: As in `read_data`; or no row has times, or a recording has both labels without times and events.
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction={validation_fraction} must be at least 0 and less than 1.")
    place = as_source(source, subset=subset)
    notes: dict[str, str] = {}
    warn = noting(notes, place.location)
    found = find_entries(place, events=True, separator=label_separator, warn=warn, **settings)
    of_recordings: dict[str, list[Entry]] = {}
    for entry in found:
        of_recordings.setdefault(entry.name, []).append(entry)
    if all(entry.end_s is None for entry in found):
        raise ValueError(
            f"source={place.location!r} does not say when anything is heard: no recording has a selection table or a "
            "label track beside it, and the table has no columns of times, such as onset and offset. Without times, "
            "train a classifier of clips."
        )
    data = labelled_data(
        place,
        [_recording(entries, place.location) for entries in of_recordings.values()],
        notes=notes,
        multi_label=True,
        validation_fraction=validation_fraction,
        decode=decode,
        seed=seed,
        progress=progress,
    )
    return _with_events(data, of_recordings)


def _recording(entries: Sequence[Entry], location: str) -> Entry:
    """Return one entry for a recording: its labels are those of its events, or its own."""
    first = entries[0]
    if len({(entry.split, entry.group) for entry in entries}) > 1:
        raise ValueError(f"source={location!r} has {first.name!r} in several splits or groups.")
    problem = next((entry.problem for entry in entries if entry.problem), "")
    has_events = any(entry.end_s is not None for entry in entries)
    if not problem and has_events and any(entry.end_s is None and entry.labels for entry in entries):
        raise ValueError(
            f"source={location!r} says of {first.name!r} both when something is heard and, in a row without times, "
            "what is heard. Give that row its times, or remove the times of the others."
        )
    return replace(
        first,
        labels=tuple(dict.fromkeys(label for entry in entries for label in entry.labels)),
        start_s=0.0,
        end_s=None,
        may_be_empty=True,
        problem=problem,
        multi_label=True,
    )


def _with_events(data: LabelledData, of_recordings: Mapping[str, Sequence[Entry]]) -> StronglyLabelledData:
    """Add the events to recordings that can be read; those with events beyond their end are left out."""
    numbers = {label: number for number, label in enumerate(data.labels)}
    events: dict[str, tuple[MarkedEvent, ...]] = {}
    weak, clips = set(), []
    skipped, warned = dict(data.skipped), dict(data.warned)
    for clip in data.clips:
        entries = of_recordings[clip.name]
        beyond = next((entry for entry in entries if (entry.end_s or 0.0) > clip.duration_s + END_TOLERANCE_S), None)
        if beyond is not None:
            reason = f"{beyond.title!r} ends behind the recording, which lasts {clip.duration_s:.6g} s"
            add_reason(skipped, clip.name, reason)
            continue
        clips.append(clip)
        marked = [
            MarkedEvent(number, entry.start_s, min(entry.end_s, clip.duration_s))
            for entry in entries
            if entry.end_s is not None and entry.start_s < clip.duration_s
            for number in ([numbers[label] for label in entry.labels] or [UNNAMED])
        ]
        if any(event.label == UNNAMED for event in marked):
            add_reason(warned, clip.name, "an event has no label, so what is heard meanwhile is not known")
        if clip.labels and not marked:
            weak.add(clip.name)
        events[clip.name] = tuple(sorted(marked, key=lambda event: (event.start_s, event.end_s, event.label)))
    return StronglyLabelledData(
        source=data.source,
        clips=clips,
        labels=data.labels,
        multi_label=True,
        skipped=skipped,
        warned=warned,
        failed=data.failed | (skipped.keys() - data.skipped.keys()),
        events=events,
        weak=frozenset(weak),
    )
