"""Labelled recordings as rows of a training set."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_ast.data import audio
from hf_ast.data.labelled import Clip, LabelledData
from hf_ast.data.readers import Reader

from .damage import ToleratingDataset, outlive_signals


class Clips(ToleratingDataset):
    """Waveforms and labels, as `TrainingCollator` takes them: `{"waveform": (S,), "labels": ...}`.

    A recording that is longer than the model's input gives random parts, as many per epoch as would cover it, or, for
    evaluation, the part in its middle. The parts depend only on the seed, the epoch and the number of the row, so that
    a resumed run draws the same parts as it would have without the interruption. Pass the dataset to `Trainer` as a
    callback as well, so that it learns the epoch.

    Parts of a segment lie inside it. A recording that turns out to be damaged is replaced by the next one, with the
    labels of that one, and listed in `damaged`.

    Args:
        data: Where the recordings are, and how they are labelled.
        clips: The recordings to use.
        sampling_rate: In Hz.
        duration_s: Length of the model's input.
        random: Whether to take random parts.
        seed: Seed of the parts.
    """

    def __init__(
        self,
        data: LabelledData,
        clips: Sequence[Clip],
        *,
        sampling_rate: int,
        duration_s: float,
        random: bool = False,
        seed: int = 0,
    ):
        super().__init__(clips)
        self.data = data
        self.sampling_rate = sampling_rate
        self.duration_s = duration_s
        self.random = random
        self.seed = seed
        # The number of the recording of each row
        self.numbers = [
            number
            for number, clip in enumerate(self.recordings)
            for _ in range(num_parts(clip, duration_s) if random else 1)
        ]
        self._reader: Reader | None = None

    @property
    def rows(self) -> list[Clip]:
        """The recording of each row."""
        return [self.recordings[number] for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self._place(index)
        if self._reader is None:  # one per process
            outlive_signals()
            self._reader = self.data.source.reader()
        for number in self.candidates(self.numbers[index], 0, len(self.recordings)):
            clip = self.recordings[number]
            try:
                waveform = read_part(
                    self._reader, clip, place, sampling_rate=self.sampling_rate, duration_s=self.duration_s
                )
            except (OSError, ValueError) as error:
                self.mark_damaged(number, error)
                continue
            return self._row(clip, place, waveform)
        self.expect_few_damaged()
        raise AssertionError("Some recording can be read.")  # pragma: no cover

    def _place(self, index: int) -> float:
        """Return where in its recording the part of a row lies, from 0 for the first part to 1 for the last."""
        return np.random.default_rng((self.seed, int(self._epoch), index)).random() if self.random else 0.5

    def _row(self, clip: Clip, place: float, waveform: np.ndarray) -> dict[str, Any]:
        """Return the row of a part of a recording."""
        labels = self.data.targets([clip])[0] if self.data.multi_label else clip.labels[0]
        return {"waveform": waveform, "labels": labels}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}


def num_parts(clip: Clip, duration_s: float) -> int:
    """Return how many parts of this length a training takes from a recording in an epoch."""
    return max(1, round(clip.duration_s / duration_s))


def read_part(reader: Reader, clip: Clip, place: float, *, sampling_rate: int, duration_s: float) -> np.ndarray:
    """Read a part of a recording or segment, or all of it if it is shorter.

    Args:
        reader: Reader of the recording's source.
        clip: The recording.
        place: Position of the part, from 0 for the first to 1 for the last.
        sampling_rate: In Hz.
        duration_s: Length of the part.

    Returns:
        Mono samples of shape (S,).

    Raises:
        ValueError: The recording cannot be decoded, or holds values that are not finite.
    """
    if clip.end_s is not None:
        duration_s = min(duration_s, clip.duration_s)
    with reader.open(clip.name, clip.index) as recording:
        waveform, _ = audio.read(
            recording,
            sampling_rate,
            start_s=start_of(clip, place, duration_s),
            duration_s=duration_s,
            warn=_no_warning,
        )
    return waveform


def start_of(clip: Clip, place: float, duration_s: float) -> float:
    """Return where a part of this length begins in its file, in seconds; arguments as in `read_part`."""
    return clip.start_s + place * max(0.0, clip.duration_s - duration_s)


def _no_warning(message: str) -> None:
    """Say nothing: what is wrong with the recording was said when it was checked."""
