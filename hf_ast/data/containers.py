"""Where recordings begin and end inside a file, by the outermost structure of its container.

Radio stations, recorders and `cat` join recordings: the file goes on after the first. Each is found here as a `Part`,
with what its container promises: decoders read every part by itself, and a part that ends too early is noticed.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .files import RecordingFile
from .formats import HEAD_BYTES, Format, find_format, id3_bytes, mpeg_frame

# Where MPEG frames are searched for in a file that begins with something else, such as a frame that is cut
SEARCH_BYTES = 2**20
# What recorders write instead of the number of bytes that they do not know yet: 0, or close to the largest number
PLACEHOLDERS = (range(1), range(2**31 - 2**12 - 64, 2**31 + 65), range(2**32 - 2**12, 2**32))
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


def find_parts(recording: RecordingFile, end_s: float = math.inf) -> list[Part]:
    """Find the recordings in a file, one after the other; none if its content is of no known format.

    Args:
        recording: An open file.
        end_s: What comes later, in seconds, is not wanted. FLAC need not be searched for more than it promises.
    """
    row, start = _format_of(recording)
    if row is None:
        return []
    if row.name == "FLAC" and end_s <= _flac_s(recording.read(start, 26)):
        return [Part(row, start, recording.size)]
    return list(_SPLITTERS.get(row.name, _one)(recording, row, start))


def _format_of(recording: RecordingFile) -> tuple[Format | None, int]:
    """The format of a file, and where it begins: behind an ID3 tag, or at the first frame of MPEG audio."""
    start = id3_bytes(recording.read(0, 10))
    row = find_format(recording.read(start, HEAD_BYTES))
    if row is not None:
        return row, 0 if row.name == "MP3" else start  # FFmpeg looks for gapless lengths in the tag
    content = recording.read(start, SEARCH_BYTES)
    for found in re.finditer(rb"\xff[\xe0-\xff]", content):
        row = find_format(content[found.start() : found.start() + HEAD_BYTES], num_frames=4)
        if row is not None:
            return row, start + found.start()
    return None, 0


def _one(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    yield Part(row, start, recording.size)


def _riff_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """WAV, RF64, AIFF, AVI: chunks inside of one chunk, whose size recorders often leave wrong or empty."""
    order = ">" if recording.read(start, 4) in (b"FORM", b"RIFX") else "<"
    sound = _SOUND_CHUNKS.get(row.name, b"data")
    position, long_size = start + 12, None
    while position + 8 <= recording.size:
        head = recording.read(position, 36)
        size = struct.unpack(order + "I", head[4:8])[0]
        if head[:4] == b"ds64" and len(head) >= 24:
            long_size = struct.unpack("<Q", head[16:24])[0]
        is_sound = head[:4] == sound or (head[:4] == b"LIST" and head[8:12] == sound)
        if is_sound and size == 2**32 - 1 and long_size is not None:
            size = long_size
        end = position + 8 + size + size % 2
        if is_sound:
            yield from _sound_chunk(recording, row, start, position + 8, size)
            return
        position = end
    yield Part(row, start, recording.size)


_SOUND_CHUNKS = {"AIFF": b"SSND", "AVI": b"movi", "IFF": b"BODY"}


def _sound_chunk(recording: RecordingFile, row: Format, start: int, first: int, size: int) -> Iterator[Part]:
    """The part whose samples begin at a byte, and the parts that follow."""
    there = recording.size - first
    if any(size in values for values in PLACEHOLDERS) and there < 2**31 - 2**13:
        is_empty = size == 0 and _is_chunks(recording, first)
        yield Part(row, start, recording.size, has_open_end=not is_empty and there > 0)
        return
    if size > there:
        if there:
            yield Part(row, start, recording.size, promised_share=size / there)
        else:
            yield Part(row, start, recording.size)
        return
    end = first + size + size % 2
    for position in (first + size, end):  # not all programs pad odd sizes
        if recording.read(position, 4) in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            following = find_format(recording.read(position, HEAD_BYTES))
            if following is row:
                yield Part(row, start, position)
                yield from _riff_parts(recording, row, position)
                return
    if row.name == "AVI" or _is_tail(recording, end) or _is_tail(recording, first + size):
        yield Part(row, start, recording.size)
        return
    yield Part(row, start, recording.size, promised_share=size / there, has_open_end=True)


def _is_tail(recording: RecordingFile, position: int) -> bool:
    """Whether what follows the samples is nothing, zeros, tags, or chunks up to the end of the file."""
    rest = recording.read(position, SEARCH_BYTES)
    if len(rest) < 8 or rest.startswith(TAGS_AT_THE_END) or not rest.strip(b"\0"):
        return True
    return _is_chunks(recording, position)


def _is_chunks(recording: RecordingFile, position: int) -> bool:
    """Whether chunks follow each other from here to the end of the file."""
    order = ">" if recording.read(0, 4) in (b"FORM", b"RIFX") else "<"
    for _ in range(1000):
        head = recording.read(position, 8)
        if len(head) < 8:
            return True
        if not re.fullmatch(rb"[ -~]{4}", head[:4]):
            return False
        size = struct.unpack(order + "I", head[4:8])[0]
        position += 8 + size + size % 2
        if position > recording.size + 1:
            return False
    return False


def _sized_chunk(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """Wave64, CAF and AU: the number of bytes of the samples, where it is known."""
    position, size = start, 0
    if row.name == "AU":
        head = recording.read(start, 12)
        position, size = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12].ljust(8, b"\0"))
        position += start
        size = size if size < 2**32 - 2**12 else -1
    elif row.name == "CAF":
        position = _find_chunk(recording, start + 8, 12, lambda head: (head[:4], _caf_size(head)), b"data")
        size = _caf_size(recording.read(position - 12, 12))
    else:
        position = _find_chunk(recording, start + 40, 24, lambda head: (head[:4], _w64_size(head)), b"data")
        size = _w64_size(recording.read(position - 24, 24))
    there = recording.size - position
    for end in (position + size, position + size + -size % 8):
        if 0 < size <= there and find_format(recording.read(end, HEAD_BYTES)) is row:
            yield Part(row, start, end)
            yield from _sized_chunk(recording, row, end)
            return
    yield Part(row, start, recording.size, promised_share=size / there if 2**62 > size > there > 0 else None)


def _stated_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """NIST Sphere and AVR: headers that count the samples."""
    head = recording.read(start, 1024)
    first = size = 0
    if row.name == "NIST Sphere":
        fields = dict(re.findall(rb"(\w+) -i (\d{1,15})", head))
        counts = [int(fields.get(name, b"0")) for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
        lines = head[:16].split()
        first, size = int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 1024, math.prod(counts)
    elif len(head) >= 128:
        is_stereo, bits, num_frames = struct.unpack(">hh", head[12:16]) + struct.unpack(">I", head[26:30])
        first, size = 128, num_frames * (bits // 8) * (2 if is_stereo else 1)
    there = recording.size - start - first
    yield Part(row, start, recording.size, promised_share=size / there if size > there > 0 else None)


def _find_chunk(
    recording: RecordingFile, position: int, head_bytes: int, read: Callable[[bytes], tuple[bytes, int]], name: bytes
) -> int:
    """Where the content of a chunk begins; the end of the file if it is not there."""
    for _ in range(1000):
        head = recording.read(position, head_bytes)
        found, size = read(head.ljust(head_bytes, b"\0"))
        if len(head) < head_bytes or size < 0 or position + size > 2**62:
            break
        position += head_bytes
        if found == name:
            return position
        position += size
    return recording.size


def _caf_size(head: bytes) -> int:
    return struct.unpack(">q", head[4:12].ljust(8, b"\0"))[0]


def _w64_size(head: bytes) -> int:
    """Size of the content of a chunk of Wave64, which are aligned to eight bytes."""
    size = struct.unpack("<q", head[16:24].ljust(8, b"\0"))[0] - 24
    return size if head[:4] == b"data" else size + -size % 8


def _flac_s(head: bytes) -> float:
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


def _mp3_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
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
        yield Part(row, first, end, promised_s=seconds)


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


def _ogg_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
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
        if granule > 0 and numbers.get(stream, number - 1) not in (number - 1, number):
            problem = problem or f"lacks pages of its stream at byte {position:,}"
        numbers[stream] = number
        granule = page_granule if page_granule > 0 else granule
        if end > recording.size:
            problem = f"ends inside a page, {end - recording.size:,} bytes before the end of that page"
        position = end
    yield Part(row, first, recording.size, problem=problem, ends_s=None if problem else _ogg_end_s(heads, granule))


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


def _mp4_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """MP4: boxes, the first of which describes a file."""
    position, first, has_sound, problem = start, start, False, ""
    while position + 8 <= recording.size:
        head = recording.read(position, 16)
        size, name = struct.unpack(">I", head[:4])[0], head[4:8]
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:16])[0]
        if size == 0:
            break
        if size < 8 or not re.fullmatch(rb"[ -~\xa9]{4}", name):
            break  # what comes behind a file is none of its business
        if name == b"ftyp" and has_sound and position > first:
            yield Part(row, first, position)
            first, has_sound = position, False
        has_sound = has_sound or name == b"mdat"
        if position + size > recording.size:
            missing = position + size - recording.size
            problem = f"ends {missing:,} bytes before the end that its box {name.decode('latin-1')!r} promises"
        position += size
    yield Part(row, first, recording.size, problem=problem)


def _matroska_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """Matroska and WebM: a header and a segment, whose size live recordings leave open."""
    position, first, problem = start, start, ""
    while position + 8 <= recording.size:
        head = recording.read(position, 12)
        id_bytes = _vint_bytes(head[0])
        size_bytes = _vint_bytes(head[id_bytes]) if 0 < id_bytes < 5 else 0
        if size_bytes == 0:
            break
        if head[:4] == b"\x1a\x45\xdf\xa3" and position > first:
            yield Part(row, first, position)
            first = position
        bits = 7 * size_bytes
        size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & (1 << bits) - 1
        if size == (1 << bits) - 1:
            break
        position += id_bytes + size_bytes + size
        if position > recording.size:
            problem = f"ends {position - recording.size:,} bytes before the end that its header promises"
    yield Part(row, first, recording.size, problem=problem)


def _vint_bytes(first: int) -> int:
    """How many bytes a number of Matroska takes; 0 if it is none."""
    return 9 - first.bit_length() if first else 0


def _asf_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """ASF: a header and an object of data, whose size live recordings leave empty."""
    for part in _marked_parts(recording, row, start):
        header_size = struct.unpack("<Q", recording.read(part.start + 16, 8).ljust(8, b"\0"))[0]
        head = recording.read(min(part.start + header_size, part.end), 24)
        size = struct.unpack("<Q", head[16:24])[0] if len(head) == 24 else 0
        missing = part.start + header_size + size - part.end
        problem = f"ends {missing:,} bytes before the end that its header promises" if 0 < missing < 2**62 else ""
        yield Part(row, part.start, part.end, problem=problem)


def _marked_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """Formats that begin with so many known bytes that they are nowhere else."""
    starts = [start, *_find_all(recording, start + 4, _MARKS[row.name], 32)]
    for first, end in zip(starts, [*starts[1:], recording.size], strict=True):
        yield Part(row, first, end)


_MARKS = {
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
_SPLITTERS: dict[str, Callable[[RecordingFile, Format, int], Iterator[Part]]] = {
    "WAV": _riff_parts,
    "RF64": _riff_parts,
    "AIFF": _riff_parts,
    "AVI": _riff_parts,
    "IFF": _riff_parts,
    "NIST Sphere": _stated_parts,
    "AVR": _stated_parts,
    "Wave64": _sized_chunk,
    "CAF": _sized_chunk,
    "AU": _sized_chunk,
    **dict.fromkeys(_MARKS, _marked_parts),
    "MP3": _mp3_parts,
    "Ogg Vorbis": _ogg_parts,
    "Ogg": _ogg_parts,
    "MP4": _mp4_parts,
    "Matroska": _matroska_parts,
    "ASF": _asf_parts,
}
