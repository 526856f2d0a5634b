"""The two decoders, behind one interface: soundfile (libsndfile) and PyAV (FFmpeg)."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import numpy as np

from .checks import checked_rate, import_for_audio
from .containers import Part
from .files import RecordingFile

# Values that are decoded at once, over all channels, whatever rate and number of channels a header claims
MAX_BLOCK_VALUES = 2**26
# libsndfile says more than this of a stream whose length it does not know
MAX_FRAMES = 2**60
# Formats whose headers state the length of the sound, and not an estimate, or the length of a film
EXACT_LENGTHS = ("FLAC", "Ogg Vorbis", "MP4", "WavPack", "True Audio", "Monkey's Audio")
# Formats whose headers state the length of everything, so that of the sound if there is no video
WHOLE_LENGTHS = ("ASF", "FLV", "NUT", "RealMedia")
# AAC ends with a frame that is filled up, of at most 2,048 samples, and headers tell where the sound ends in it
MAX_PADDING = 4096
# More samples per byte than any codec has: what is said to be missing is silence only up to this
MAX_SILENCE_PER_BYTE = 100
# So many packets may be lost one by one: streams are cut, and joined, in the middle of a packet
MAX_LOST_PACKETS = 2

# What FFmpeg calls the forms of samples, without the `p` of those that lie in planes
SAMPLE_TYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}


class DecodingError(ValueError):
    """A decoder cannot read a recording, or cannot read on."""


class Decoder(ABC):
    """A recording that is open for decoding; a context manager.

    Attributes:
        rate: Sampling rate in Hz that the header states.
        promised_s: Length that the header states, in seconds; None if it states none, or an estimate.
        is_damaged: Whether packets were lost, other than a single one where streams are cut and joined.
        lost_s, first_loss_s: How much of the sound is silent instead, and where that begins.
        remarks: What else there is to say, as ends of sentences.
    """

    def __init__(self, recording: RecordingFile, part: Part):
        self.recording, self.part = recording, part
        self.rate, self.promised_s = 0, None
        self.is_damaged, self.num_lost = False, 0
        self.lost_s = self.first_loss_s = 0.0
        self.remarks: list[str] = []
        self.resources = ExitStack()

    rate: int
    promised_s: float | None

    def __enter__(self) -> Self:
        with self.resources as resources:
            self.open(resources)
            self.resources = resources.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.resources.close()

    @abstractmethod
    def open(self, resources: ExitStack) -> None:
        """Open the recording and read its header."""

    @abstractmethod
    def reachable(self, sample: int) -> int:
        """Return up to which sample, but not beyond this one, decoding can be left out without changing the rest."""

    @abstractmethod
    def blocks(self, first: int, block_s: float) -> Iterator[tuple[np.ndarray, int]]:
        """Yield consecutive mono pieces (S,) from a sample on to the end, with their rates; the rate may change."""


class SoundFileDecoder(Decoder):
    """libsndfile: exact and fast for what is stored sample by sample, and for FLAC."""

    def open(self, resources: ExitStack) -> None:
        """Open the recording and read its header."""
        soundfile = import_for_audio("soundfile")
        if self.part.has_open_end:
            raise DecodingError("its header does not state its length")
        is_known = bool(self.part.format.suffixes)
        if not is_known and (self.recording.read(0, 3) == b"ID3" or self.recording.read(0, 2) >= b"\xff\xe0"):
            raise DecodingError(
                "its content is of no known format"
            )  # libmpg123 would search it, and print what it finds
        # By its path, libsndfile would believe the suffix of a file that it does not know
        whole = is_known and self.part.start == 0 and self.part.end == self.recording.size
        file: Any = self.recording.path if whole else None
        if isinstance(file, str) and os.name != "nt":
            file = os.fsencode(file)  # soundfile refuses names that are not UTF-8
        if file is None:
            file = resources.enter_context(self.recording.part(self.part.start, self.part.end))
        self.errors = (soundfile.LibsndfileError, RuntimeError, TypeError, OSError)
        try:
            self.sound = resources.enter_context(soundfile.SoundFile(file))
        except self.errors as error:
            raise DecodingError(_text_of_libsndfile(error)) from error
        if self.sound.subtype.startswith("MPEG") and self.part.format.decoders[0] == "soundfile":
            raise DecodingError("libsndfile does not seek in MP3 exactly")
        self.rate = checked_rate(f"{self.recording.name}: the sampling rate in its header", self.sound.samplerate)
        self.num_frames: int = self.sound.frames
        if self.num_frames > MAX_FRAMES:
            raise DecodingError("its header does not state its length")
        if self.part.format.name in EXACT_LENGTHS:
            self.promised_s = self.num_frames / self.rate
        # libsndfile seeks in Vorbis and MP3, but not always to the right place
        is_lossy = self.part.format.decoders[0] != "soundfile" or self.part.format.name == "Ogg Vorbis"
        self.is_seekable: bool = self.sound.seekable() and not is_lossy

    def reachable(self, sample: int) -> int:
        """Samples can be left out where the format is seekable; FLAC only as far as its header reaches."""
        if not self.is_seekable:
            return 0
        if sample >= self.num_frames:
            return 0 if self.part.format.name in EXACT_LENGTHS else self.num_frames
        return sample

    def is_complete(self) -> bool:
        """Whether the recording is as long as its header says, without decoding all of it."""
        if self.num_frames == 0 or self.part.format.name not in EXACT_LENGTHS:
            return True
        try:
            self.sound.seek(self.num_frames - 1)
            return len(self.sound.read(1)) == 1
        except self.errors:
            return False

    def blocks(self, first: int, block_s: float) -> Iterator[tuple[np.ndarray, int]]:
        """Yield consecutive mono pieces from a sample on."""
        size = max(1, min(round(block_s * self.rate), MAX_BLOCK_VALUES // self.sound.channels))
        position = 0
        try:
            if first and self.is_seekable:
                position = self.sound.seek(first)
            while True:
                samples = self.sound.read(size, dtype="float32", always_2d=True)
                if len(samples) == 0:
                    break
                wanted = samples[max(0, first - position) :]
                position += len(samples)
                if len(wanted):
                    yield _mixed_down(wanted.T), self.rate
        except self.errors as error:
            raise DecodingError(_text_of_libsndfile(error)) from error
        if self.promised_s is not None and position < self.num_frames:
            raise DecodingError(f"libsndfile finds {position:,} of {self.num_frames:,} samples")


class FFmpegDecoder(Decoder):
    """PyAV: every codec and container that FFmpeg knows, decoded until the stream ends.

    FFmpeg leaves out what encoders say that they added at the start and the end. A packet that cannot be decoded
    becomes silence of its length, so that what follows stays where it is.
    """

    def open(self, resources: ExitStack) -> None:
        """Open the recording and choose its sound."""
        av = import_for_audio("av", f"Reading {self.part.format.name}")
        self.errors: Any = (av.FFmpegError, ValueError, OSError)
        file = resources.enter_context(self.recording.part(self.part.start, self.part.end))
        demuxers = self.part.format.demuxers
        options = {"format_whitelist": demuxers, "protocol_whitelist": "none"}
        if self.part.has_open_end:
            options["ignore_length"] = "1"
        try:
            container = av.open(file, mode="r", metadata_errors="ignore", container_options=options)
            self.container = resources.enter_context(container)
        except self.errors as error:
            raise DecodingError(_text_of_ffmpeg(error)) from error
        self.stream = self.container.streams.best("audio")
        if self.stream is None:
            raise DecodingError("it holds no sound")
        if self.stream.codec_context is None:
            raise DecodingError("its codec is not known")
        self.stream.codec_context.thread_count = 1
        if self.part.format.name == "FLAC":
            self.stream.codec_context.options = {"err_detect": "crccheck"}
        tracks = self.container.streams.audio
        if len(tracks) > 1:
            number = [track.index for track in tracks].index(self.stream.index) + 1
            self.remarks.append(f"holds {len(tracks)} sound tracks, of which number {number} is read")
        self.rate = self.stream.codec_context.sample_rate or 0
        if self.part.format.name in EXACT_LENGTHS and self.stream.duration:
            self.promised_s = float(self.stream.duration * self.stream.time_base)
        elif self.part.format.name in WHOLE_LENGTHS and len(self.container.streams) == 1 and self.container.duration:
            self.promised_s = self.container.duration / av.time_base

    def reachable(self, sample: int) -> int:
        """No sample can be left out: those of most codecs depend on what was before."""
        return 0

    def blocks(self, first: int, block_s: float) -> Iterator[tuple[np.ndarray, int]]:
        """Yield consecutive mono pieces from a sample on."""
        position = 0
        for frame, num_samples, rate in self.frames():
            if position + num_samples > first:
                samples = np.zeros(num_samples, np.float32) if frame is None else self._mono(frame)[:num_samples]
                yield samples[max(0, first - position) :], rate
            position += num_samples

    def frames(self) -> Iterator[tuple[Any, int, int]]:
        """Yield decoded frames, or None for silence, with how many samples count and their rate in Hz."""
        end_s = self.promised_s if self.part.format.name == "MP4" else self.part.ends_s
        num_done = 0
        end: float | None = None
        held: list[tuple[Any, int, int]] = []
        for frame, num_samples, rate in self._timed_frames():
            end = (math.inf if end_s is None else round(end_s * rate)) if end is None else end
            if num_done + num_samples <= end:
                yield frame, num_samples, rate
            else:
                held.append((frame, num_samples, rate))
            num_done += num_samples
            if num_done > end + MAX_PADDING:  # so the header does not tell where the sound ends
                yield from held
                held, end = [], math.inf
        if held and end is not None:
            frame, num_samples, rate = held[0]
            num_samples = int(end) - (num_done - sum(item[1] for item in held))
            if num_samples > 0:
                yield frame, num_samples, rate

    def _timed_frames(self) -> Iterator[tuple[Any, int, int]]:
        """All frames, with silence where packets are lost; what is lost at the very end is not replaced."""
        position, losses, in_a_row = 0, 0, 0
        room = MAX_SILENCE_PER_BYTE * (self.part.end - self.part.start)
        for frame, lost in self._decoded():
            if frame is None:
                losses += lost
                in_a_row += 1
                continue
            rate = checked_rate(f"{self.recording.name}: its sampling rate", frame.sample_rate)
            gap = self._gap(frame, position + losses)
            losses = min(losses + gap, room)
            room -= losses
            if losses and position:
                self.first_loss_s = self.first_loss_s or position / rate
                self.num_lost += in_a_row
                self.lost_s += losses / rate
                self.is_damaged |= gap > 0 or in_a_row > 1 or self.num_lost > MAX_LOST_PACKETS
                for start in range(0, losses, MAX_BLOCK_VALUES):
                    yield None, min(MAX_BLOCK_VALUES, losses - start), rate
                position += losses
            losses = in_a_row = 0
            position += frame.samples
            yield frame, frame.samples, rate

    def _gap(self, frame: Any, position: int) -> int:
        """Samples that are missing before a frame of FLAC, whose frames are numbered."""
        if self.part.format.name != "FLAC" or frame.pts is None or self.promised_s is None:
            return 0
        place = round(float(frame.pts * frame.time_base) * frame.sample_rate)
        return max(0, place - position) if place <= self.promised_s * frame.sample_rate else 0

    def _decoded(self) -> Iterator[tuple[Any, int]]:
        """Frames as they are decoded, or None and the number of samples of a packet that cannot be decoded."""
        packets = self.container.demux(self.stream)
        rate = self.rate
        while True:
            try:
                packet = next(packets, None)
            except self.errors as error:
                self.remarks.append(f"is damaged and cannot be read on ({_text_of_ffmpeg(error)})")
                return
            if packet is None:
                return
            try:
                for frame in packet.decode():
                    rate = frame.sample_rate
                    yield frame, 0
            except self.errors:
                seconds = float(packet.duration * packet.time_base) if packet.duration and packet.time_base else 0.0
                yield None, round(min(seconds, 10.0) * rate)

    def _mono(self, frame: Any) -> np.ndarray:
        """The mean of the channels of a frame, float32 (S,)."""
        num_channels, form = frame.layout.nb_channels, frame.format
        dtype = SAMPLE_TYPES.get(form.name.removesuffix("p"))
        if dtype is None:
            raise DecodingError(f"its samples have an unknown form ({form.name})")
        if form.is_planar:  # behind the planes of eight channels or more, PyAV finds others that do not exist
            planes = [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:num_channels]]
            return _mixed_down(_as_floats(np.stack(planes)))
        values = np.frombuffer(frame.planes[0], dtype, frame.samples * num_channels)
        return _mixed_down(_as_floats(values.reshape(-1, num_channels).T))


def _as_floats(values: np.ndarray) -> np.ndarray:
    """Samples of any type as float32 in [-1, 1], by the same factors as in libsndfile."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # values that become infinite are refused later
            return values.astype(np.float32, copy=False)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    return values.astype(np.float32) * np.float32(2.0 ** (1 - 8 * values.dtype.itemsize))


def _mixed_down(samples: np.ndarray) -> np.ndarray:
    """The mean of the channels (channels, S), the same bits whatever the layout; fast for one and two."""
    if len(samples) == 1:
        return samples[0]
    if len(samples) == 2:
        return (samples[0] + samples[1]) * np.float32(0.5)
    return np.ascontiguousarray(samples.T).mean(axis=1)


def _text_of_libsndfile(error: Exception) -> str:
    """What an error of libsndfile says, without the name of our file object."""
    text = getattr(error, "error_string", None) or str(error)
    return f"libsndfile: {text.removeprefix('Error : ').rstrip('.')}"


def _text_of_ffmpeg(error: Exception) -> str:
    """What an error of FFmpeg says, without the number and the name of our file object."""
    text = getattr(error, "strerror", None) or str(error)
    return f"FFmpeg: {text}"
