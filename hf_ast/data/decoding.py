"""Files into samples: which decoder reads what, and what is said when a recording is not what its header says.

soundfile (libsndfile) reads what is stored sample by sample, PyAV (FFmpeg) all the rest; `formats.FORMATS` says which.
What the first cannot read goes to the second, from the sample on where the first gave up.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .containers import TOLERANCE_S, Part, find_parts
from .decoders import MAX_BLOCK_VALUES, Decoder, DecodingError, FFmpegDecoder, SoundFileDecoder
from .files import RecordingFile
from .formats import FORMATS, SOUNDFILE_FIRST, Format

Warn = Callable[[str], None]
_DECODERS: dict[str, type[Decoder]] = {"soundfile": SoundFileDecoder, "av": FFmpegDecoder}
# What soundfile tries if nothing tells the format of a file
_UNKNOWN = Format("unknown", (), None, ("soundfile",))


def decode(
    recording: RecordingFile, warn: Warn, *, block_s: float, start_s: float = 0.0, duration_s: float | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Decode a recording, or a part of it, until its streams end.

    Args:
        recording: An open file, with all recordings that are joined in it.
        warn: Called with a sentence for whatever is wrong.
        block_s: How much to return at once, in seconds.
        start_s, duration_s: What is wanted.

    Yields:
        Mono pieces (S,), float32, and their rate in Hz, which may change where recordings are joined. The first, which
        may be empty, has the rate at which the recording begins.

    Raises:
        ValueError: The file cannot be decoded.
        ImportError: A decoder is missing.
    """
    window = _Window(start_s, duration_s)
    parts = find_parts(recording, window.end_s)
    _check_content(recording, parts)
    buffer = _Buffer(block_s)
    first_error: Exception | None = None
    has_samples = False
    for number, part in enumerate(parts or [Part(_UNKNOWN, 0, recording.size)]):
        name = recording.name if len(parts) < 2 else f"{recording.name}, part {number + 1} of {len(parts)},"
        try:
            for samples, rate in _decode_part(recording, part, window, _Reporter(name, part, warn), block_s):
                if not has_samples and len(samples) == 0:
                    yield samples, rate  # the rate of the recording is that of its beginning
                has_samples = True
                yield from buffer.push(samples, rate)
                if window.is_over:
                    yield from buffer.flush()
                    return
        except DecodingError as error:
            first_error = first_error or error
            if has_samples or number + 1 < len(parts):
                warn(f"{name} cannot be decoded and is left out ({error}).")
    yield from buffer.flush()
    if first_error is not None and not has_samples:
        known = ", ".join(row.name for row in FORMATS if row.codecs)
        raise ValueError(
            f"{recording.name} cannot be read ({first_error}). Check that it is a recording, or convert it to one of: "
            f"{known}."
        ) from first_error


def measure(recording: RecordingFile, warn: Warn) -> float:
    """Length of a recording in seconds: from its header where that is sure, else by decoding all of it."""
    parts = find_parts(recording)
    _check_content(recording, parts)
    if len(parts) == 1 and parts[0].format.decoders == SOUNDFILE_FIRST and parts[0].is_sure:
        try:
            with SoundFileDecoder(recording, parts[0]) as decoder:
                if decoder.is_complete():
                    return decoder.num_frames / decoder.rate
        except (DecodingError, ImportError):
            pass
    seconds, count, last_rate = 0.0, 0, 0
    for samples, rate in decode(recording, warn, block_s=10.0):
        if rate != last_rate and last_rate:
            seconds, count = seconds + count / last_rate, 0
        count, last_rate = count + len(samples), rate
    return seconds + count / last_rate if last_rate else 0.0


def joined(pieces: list[np.ndarray]) -> np.ndarray:
    """Consecutive pieces (S,) as one; a single one is not copied, as short parts are mostly the cost of copies."""
    return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]


def _check_content(recording: RecordingFile, parts: list[Part]) -> None:
    """Refuse what is no recording in words that say what it is."""
    if recording.size == 0:
        raise ValueError(f"{recording.name} is empty: it has no bytes.")
    if parts:
        return
    head = recording.read(0, 1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<!--", b"<script")):
        raise ValueError(f"{recording.name} cannot be read: it holds a web page or XML, and no recording.")


class _Window:
    """What is wanted of a recording, in samples of rates that may change."""

    def __init__(self, start_s: float, duration_s: float | None):
        self.start_s, self.duration_s = start_s, duration_s
        self.end_s = math.inf if duration_s is None else start_s + duration_s
        # Where the samples at this rate begin, in seconds, and how many of them have passed
        self.rate, self.begin_s, self.num_passed = 0, 0.0, 0
        self.is_over = False

    def first(self, rate: int) -> int:
        """The first sample that is wanted, counted from where the samples at this rate begin."""
        return max(0, round((self.start_s - self.begin_s) * rate))

    def skip(self, num_samples: int, rate: int) -> None:
        """Note that samples have been left out."""
        if rate != self.rate:
            self.begin_s += self.num_passed / self.rate if self.rate else 0.0
            self.rate, self.num_passed = rate, 0
        self.num_passed += num_samples

    def cut(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """The wanted of the samples that come next."""
        self.skip(0, rate)
        first = self.first(rate)
        end: float = math.inf
        if self.duration_s is not None:
            in_one_go = self.begin_s == 0.0
            end = first + round(self.duration_s * rate) if in_one_go else round((self.end_s - self.begin_s) * rate)
        start, self.num_passed = self.num_passed, self.num_passed + len(samples)
        self.is_over = self.num_passed >= end
        return samples[max(0, first - start) : int(max(0, min(len(samples), end - start)))]


class _Buffer:
    """Gathers the pieces that decoders return, which may be tiny, into blocks of one rate."""

    def __init__(self, block_s: float):
        self.block_s, self.rate, self.size, self.num_held = block_s, 0, 1, 0
        self.held: list[np.ndarray] = []

    def push(self, samples: np.ndarray, rate: int) -> Iterator[tuple[np.ndarray, int]]:
        if rate != self.rate:
            yield from self.flush()
            self.rate, self.size = rate, max(1, min(round(self.block_s * rate), MAX_BLOCK_VALUES))
        if len(samples) == 0:
            return
        self.held.append(samples)
        self.num_held += len(samples)
        if self.num_held < self.size:
            return
        whole = joined(self.held)
        num_full = len(whole) // self.size * self.size
        for first in range(0, num_full, self.size):
            yield whole[first : first + self.size], rate
        self.held = [whole[num_full:]] if num_full < len(whole) else []
        self.num_held = len(whole) - num_full

    def flush(self) -> Iterator[tuple[np.ndarray, int]]:
        if self.held:
            yield joined(self.held), self.rate
        self.held, self.num_held = [], 0


@dataclass
class _Reporter:
    """Says what is wrong with a part of a recording, once it has been decoded."""

    name: str
    part: Part
    warn: Warn
    remarks: list[str] = field(default_factory=list)

    def report(self, found_s: float, decoder: Decoder) -> None:
        """Compare what was found with what was promised."""
        promised_s = self.part.promised_s or decoder.promised_s
        if self.part.promised_share is not None:
            promised_s = found_s * self.part.promised_share
        problem = self.part.problem
        if promised_s is not None and found_s < promised_s - TOLERANCE_S:
            self.warn(
                f"{self.name} lacks {promised_s - found_s:.2f} s: its header promises {promised_s:.2f} s, and "
                f"{found_s:.2f} s were found{f'; it {problem}' if problem else ''}."
            )
        elif problem:
            self.warn(f"{self.name} is damaged or cut: it {problem}; {found_s:.2f} s were found.")
        elif promised_s is not None and self.part.has_open_end and found_s > promised_s + TOLERANCE_S:
            self.warn(
                f"{self.name} goes on behind the end that its header states: {promised_s:.2f} s were promised, and "
                f"{found_s:.2f} s were found and read."
            )
        if decoder.is_damaged:
            self.warn(
                f"{self.name} is damaged: {decoder.lost_s:.2f} s of it cannot be decoded, the first at "
                f"{decoder.first_loss_s:.2f} s, and are silent in what is read."
            )
        for remark in decoder.remarks:
            self.warn(f"{self.name} {remark}.")


def _decode_part(
    recording: RecordingFile, part: Part, window: _Window, reporter: _Reporter, block_s: float
) -> Iterator[tuple[np.ndarray, int]]:
    """What is wanted of a part as mono pieces (S,), which may be empty, and their rates in Hz."""
    num_done = rate = 0
    is_first = window.rate == 0
    errors: list[Exception] = []
    for name in part.format.decoders:
        try:
            with _DECODERS[name](recording, part) as decoder:
                rate = rate or decoder.rate
                if is_first and not num_done:
                    num_done = decoder.reachable(window.first(rate))
                    if num_done:
                        window.skip(num_done, rate)
                        yield np.zeros(0, np.float32), rate
                for samples, rate in decoder.blocks(num_done, min(block_s, window.duration_s or block_s)):
                    num_done += len(samples)
                    yield window.cut(samples, rate), rate
                    if window.is_over:
                        return
                reporter.report(num_done / rate if rate else 0.0, decoder)
                return
        except (DecodingError, ImportError) as error:
            errors.append(error)
    if num_done:
        reporter.warn(
            f"{reporter.name} is damaged and cannot be decoded beyond {num_done / rate:.2f} s ({errors[-1]})."
        )
        return
    missing = [error for error in errors if isinstance(error, ImportError)]
    reasons = [*map(str, errors), *([f"it {part.problem}"] if part.problem else [])]
    raise missing[0] if missing else DecodingError("; ".join(dict.fromkeys(reasons)))
