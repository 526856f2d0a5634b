"""Recordings that are frames, pages or blocks, one after the other, and where each of several ends."""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .files import RecordingFile
from .formats import HEAD_BYTES, Format, adts_bytes, find_format, frame_bytes, id3_bytes, mpeg_frame

# Where MPEG frames are searched for in a file that begins with something else, such as a frame that is cut
SEARCH_BYTES = 2**20
# No frame of MPEG audio is longer
MAX_FRAME_BYTES = 1500
SYNC = re.compile(rb"\xff[\xe0-\xff]")
TAGS_AT_THE_END = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS", b"3DI")


@dataclass(frozen=True)
class Part:
    """A recording inside a file.

    Attributes:
        format: How it is read.
        start, end: Its bytes.
        promised_share: How many times as many bytes of samples its container promises as there are, if not 1.
        promised_s: Its length, if a header states it that decoders do not show.
        ends_s: Where the sound ends, in seconds, if what is decoded may go on a little.
        has_open_end: Whether its header does not know its length.
        problem: What is wrong with its structure, as the end of a sentence; empty if nothing is.
    """

    format: Format
    start: int
    end: int
    promised_share: float | None = None
    promised_s: float | None = None
    ends_s: float | None = None
    has_open_end: bool = False
    problem: str = ""

    @property
    def is_sure(self) -> bool:
        """Whether nothing speaks against what its header says."""
        return not self.has_open_end and not self.problem and self.promised_share is None


def flac_s(head: bytes) -> float:
    """Length that the first block of FLAC states, in seconds; 0 if none."""
    numbers = int.from_bytes(head[18:26].ljust(8, b"\0"), "big")
    rate, num_samples = numbers >> 44, numbers & 2**36 - 1
    return num_samples / rate if rate else 0.0


def _find_all(recording: RecordingFile, start: int, pattern: bytes, length: int) -> Iterator[int]:
    """Places of a pattern with a fixed length in a file."""
    compiled, size = re.compile(pattern, re.DOTALL), 2**22
    while start < recording.size:
        content = recording.read(start, size + length - 1)
        for found in compiled.finditer(content):
            if found.start() < size:
                yield start + found.start()
        start += size


def mp3_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """MP3: encoders begin a stream with a silent frame that states its length."""
    places: list[int] = [start]
    lengths: list[float | None] = [None]
    for place in _find_all(recording, start, rb"(Xing|Info)\0\0\0.|VBRI\0\1..", 8):
        found = _mp3_header(recording, place)
        if found is None:
            continue
        first, seconds = found
        if len(places) == 1 and first <= start + id3_bytes(recording.read(start, 10)) + HEAD_BYTES:
            lengths[0] = seconds
        else:
            places.append(first)
            lengths.append(seconds)
    for first, end, seconds in zip(places, [*places[1:], recording.size], lengths, strict=True):
        yield Part(row, first, end, promised_s=seconds, problem=_junk(recording, row, first, end))


def aac_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """AAC: frames that state nothing about the whole."""
    yield Part(row, start, recording.size, problem=_junk(recording, row, start, recording.size))


def _junk(recording: RecordingFile, row: Format, start: int, end: int) -> str:
    """What lies between frames of MPEG audio and is none; empty if it is a tag, or a frame that was cut at a join."""
    length_of = frame_bytes if row.name == "MP3" else adts_bytes
    position, begin, content = start, start, b""
    while position + 8 < end:
        if position + MAX_FRAME_BYTES > begin + len(content) < end:
            begin, content = position, recording.read(position, SEARCH_BYTES)
        offset = position - begin
        length = length_of(content[offset : offset + 8])
        if length:
            position += length
            continue
        if content[offset : offset + 8].startswith(TAGS_AT_THE_END):
            position += max(id3_bytes(content[offset : offset + 10]), 3)
            continue
        following = _next_frame(content, offset + 1, row)
        if following is None:
            return ""  # nothing else, or a stream that is not framed like this
        if following - offset > MAX_FRAME_BYTES and position > start:
            return f"has {following - offset:,} bytes that are no frames, at byte {position:,}"
        position = begin + following
    return ""


def _next_frame(content: bytes, offset: int, row: Format) -> int | None:
    """Where the next frames of a format begin, of which three follow each other."""
    for found in SYNC.finditer(content, offset):
        if find_format(content[found.start() : found.start() + HEAD_BYTES], num_frames=3) is row:
            return found.start()
    return None


def _mp3_header(recording: RecordingFile, place: int) -> tuple[int, float | None] | None:
    """The frame that has the header of an encoder at this place, and the length that it states in seconds."""
    kind = recording.read(place, 4)
    offsets = (36,) if kind == b"VBRI" else (36, 21, 13, 38, 23, 15)
    for offset in offsets:
        frame = mpeg_frame(recording.read(place - offset, 4)) if place >= offset else None
        # A frame with a checksum has two more bytes
        if frame is None or (kind != b"VBRI" and offset - frame.side_bytes not in (0, 2)):
            continue
        content = recording.read(place, 160).ljust(160, b"\0")
        num_frames = cut = 0
        if kind == b"VBRI":
            num_frames = struct.unpack(">I", content[14:18])[0]
        elif content[7] & 1:
            num_frames = struct.unpack(">I", content[8:12])[0]
        if content[7] == 15 and content[120:124] in (b"LAME", b"Lavf", b"Lavc"):  # delay and padding, 12 bits each
            delays = int.from_bytes(content[141:144], "big")
            cut = (delays >> 12) + (delays & 4095)
        num_samples = num_frames * frame.num_samples - cut
        return place - offset, num_samples / frame.rate if num_samples > 0 else None
    return None


def ogg_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """Ogg: a stream begins with pages that say so, and each page states how much has been heard at its end."""
    row = find_format(recording.read(start, HEAD_BYTES)) or row
    position, first, problem = start, start, ""
    heads: list[bytes] = []
    granule, has_data = 0, False
    numbers: dict[bytes, int] = {}
    while position < recording.size:
        head = recording.read(position, 27 + 255)
        if head[:4] != b"OggS" or len(head) < 27:
            following = next(_find_all(recording, position + 1, rb"OggS\0[\0-\x07]", 6), recording.size)
            # Zeros fill up what was not written, and tags stand behind the end
            if recording.read(position, 64).strip(b"\0") and not head.startswith(TAGS_AT_THE_END):
                problem = f"has {following - position:,} bytes that are no Ogg, at byte {position:,}"
            position = following
            continue
        body = position + 27 + head[26]
        end = body + sum(head[27 : 27 + head[26]])
        is_beginning = bool(head[5] & 2)
        if is_beginning and has_data:
            yield Part(row, first, position, problem=problem, ends_s=_ogg_end_s(heads, granule))
            first, problem, heads, granule, has_data, numbers = position, "", [], 0, False, {}
            row = find_format(recording.read(first, HEAD_BYTES)) or row
        if is_beginning:
            heads.append(recording.read(body, 19))
        else:
            has_data = True
        page_granule, stream, number = struct.unpack("<q4sI", head[6:22])
        # What is recorded from a radio begins in the middle, behind the pages that describe it
        if granule > 0 and numbers.get(stream, number - 1) not in (number - 1, number) and not problem:
            problem = f"lacks pages of its stream at byte {position:,}"
        numbers[stream] = number
        granule = page_granule if page_granule > 0 else granule
        if end <= recording.size and not problem and not _is_page_whole(recording.read(position, end - position)):
            problem = f"has a page whose checksum is wrong, at byte {position:,}"
        if end > recording.size:
            problem = f"ends inside a page, {end - recording.size:,} bytes before the end of that page"
        position = end
    yield Part(row, first, recording.size, problem=problem, ends_s=None if problem else _ogg_end_s(heads, granule))


def _is_page_whole(page: bytes) -> bool:
    """Whether a page of Ogg has the checksum that it states: the CRC of zlib with the bits of all bytes reversed."""
    content = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    checksum = zlib.crc32(content, 2**32 - 1) ^ 2**32 - 1
    return int(f"{checksum:032b}"[::-1], 2) == struct.unpack("<I", page[22:26])[0]


_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def _ogg_end_s(heads: list[bytes], granule: int) -> float | None:
    """Where Vorbis or Opus ends, from what its first and its last page say; None for several streams at once."""
    if len(heads) != 1 or len(heads[0]) < 16:
        return None
    head = heads[0]
    if head.startswith(b"\x01vorbis"):
        rate = struct.unpack("<I", head[12:16])[0]
        return granule / rate if rate else None
    if head.startswith(b"OpusHead"):
        return max(0, granule - struct.unpack("<H", head[10:12])[0]) / 48000
    return None


def asf_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """ASF: a header and an object of data, whose size live recordings leave empty."""
    for part in marked_parts(recording, row, start):
        header_size = struct.unpack("<Q", recording.read(part.start + 16, 8).ljust(8, b"\0"))[0]
        head = recording.read(min(part.start + header_size, part.end), 24)
        size = struct.unpack("<Q", head[16:24])[0] if len(head) == 24 else 0
        missing = part.start + header_size + size - part.end
        problem = f"ends {missing:,} bytes before the end that its header promises" if 0 < missing < 2**62 else ""
        yield Part(row, part.start, part.end, problem=problem)


def marked_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """Formats that begin with so many known bytes that they are nowhere else."""
    starts = [start, *_find_all(recording, start + 4, MARKS[row.name], 32)]
    for first, end in zip(starts, [*starts[1:], recording.size], strict=True):
        yield Part(row, first, end)


def flac_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """FLAC: a header that states the length, and frames with numbers."""
    for part in marked_parts(recording, row, start):
        head = recording.read(part.start, 26)
        promised = int.from_bytes(head[18:26], "big") & 2**36 - 1
        yield replace(part, has_open_end=0 < promised <= _last_flac_sample(recording, part, head))


def _last_flac_sample(recording: RecordingFile, part: Part, head: bytes) -> int:
    """Where the last frame of FLAC begins, in samples; -1 if none is found."""
    first = max(part.start, part.end - SEARCH_BYTES // 8)
    content = recording.read(first, part.end - first)
    last = -1
    for found in re.finditer(rb"\xff[\xf8\xf9]", content):
        frame = content[found.start() : found.start() + 16]
        if len(frame) < 16:
            break
        num_bytes = _NUM_BYTES[frame[4]]
        extra = {6: 1, 7: 2}.get(frame[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)
        end = 4 + num_bytes + extra
        if num_bytes and _crc8(frame[:end]) == frame[end]:
            number = frame[4] & 0x7F >> num_bytes if num_bytes > 1 else frame[4]
            for byte in frame[5 : 4 + num_bytes]:
                number = number << 6 | byte & 63
            last = max(last, number if frame[1] & 1 else number * int.from_bytes(head[8:10], "big"))
    return last


def _crc8(content: bytes) -> int:
    value = 0
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (7 if value & 128 else 0)) & 255
    return value


# How many bytes a number of FLAC takes, by its first one: as in UTF-8, of up to seven
_NUM_BYTES = (1,) * 128 + (0,) * 64 + (2,) * 32 + (3,) * 16 + (4,) * 8 + (5,) * 4 + (6, 6, 7, 0)

MARKS = {
    "FLAC": rb"fLaC[\x00\x80]\x00\x00\x22[^\x00]...",
    "AMR": rb"#!AMR(-WB)?\n",
    "ASF": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
    "FLV": rb"FLV\x01[\x00\x01\x04\x05]\x00\x00\x00\x09",
    "NUT": rb"nut/multimedia container\x00",
    "RealMedia": rb"\.RMF\x00\x00\x00\x12\x00",
    "True Audio": rb"TTA1\x01\x00[\x01-\x08]\x00[\x08\x10\x18\x20]\x00",
    "VOC": rb"Creative Voice File\x1a",
    # A first block: its number is 0, and its flags say that it begins
    "WavPack": rb"wvpk.{6}\x00.{5}\x00{4}.{5}[\x08-\x0f\x18-\x1f\x28-\x2f\x38-\x3f\x48-\x4f\x88-\x8f\x98-\x9f]",
}
