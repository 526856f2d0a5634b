"""Where recordings begin and end inside a file, by the outermost structure of its container.

Radio stations, recorders and `cat` join recordings: the file goes on after the first. Each is found here as a `Part`,
with what its container promises: decoders read every part by itself, and a part that ends too early is noticed.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator

from .files import RecordingFile
from .formats import HEAD_BYTES, Format, find_format, id3_bytes
from .streams import (
    MARKS,
    SEARCH_BYTES,
    SYNC,
    TAGS_AT_THE_END,
    Part,
    aac_parts,
    asf_parts,
    flac_parts,
    flac_s,
    marked_parts,
    mp3_parts,
    ogg_parts,
)

__all__ = ["Part", "find_parts"]

# What is longer or shorter than its header says by less than this is as long: headers round, and encoders pad
TOLERANCE_S = 0.1
# What recorders write instead of the number of bytes that they do not know yet: 0, or close to the largest number
PLACEHOLDERS = (range(1), range(2**31 - 2**12 - 64, 2**31 + 65), range(2**32 - 2**12, 2**32))


def find_parts(recording: RecordingFile, end_s: float = math.inf) -> list[Part]:
    """Find the recordings in a file, one after the other; none if its content is of no known format.

    Args:
        recording: An open file.
        end_s: What comes later, in seconds, is not wanted. FLAC need not be searched for more than it promises.
    """
    row, start = _format_of(recording)
    if row is None:
        return []
    if row.name == "FLAC" and end_s <= flac_s(recording.read(start, 26)):
        return [Part(row, start, recording.size)]
    return list(_SPLITTERS.get(row.name, _one)(recording, row, start))


def _format_of(recording: RecordingFile) -> tuple[Format | None, int]:
    """The format of a file, and where it begins: behind an ID3 tag, or at the first frame of MPEG audio."""
    start = id3_bytes(recording.read(0, 10))
    row = find_format(recording.read(start, HEAD_BYTES))
    if row is not None:
        return row, 0 if row.name == "MP3" else start  # FFmpeg looks for gapless lengths in the tag
    content = recording.read(start, SEARCH_BYTES)
    for found in SYNC.finditer(content):
        row = find_format(content[found.start() : found.start() + HEAD_BYTES], num_frames=3)
        if row is not None:
            return row, start + found.start()
    return None, 0


def _one(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    yield Part(row, start, recording.size)


def _riff_parts(recording: RecordingFile, row: Format, start: int) -> Iterator[Part]:
    """WAV, RF64, AIFF, AVI: chunks inside of one chunk, whose size recorders often leave wrong or empty."""
    order = ">" if recording.read(start, 4) in (b"FORM", b"RIFX") else "<"
    sound = _SOUND_CHUNKS.get(row.name, b"data")
    position, long_size, bytes_per_s = start + 12, None, 0
    while position + 8 <= recording.size:
        head = recording.read(position, 36)
        size = struct.unpack(order + "I", head[4:8])[0]
        if head[:4] == b"ds64" and len(head) >= 24:
            long_size = struct.unpack("<Q", head[16:24])[0]
        if head[:4] == b"fmt " and len(head) >= 20:
            bytes_per_s = struct.unpack(order + "I", head[16:20])[0]
        is_sound = head[:4] == sound or (head[:4] == b"LIST" and head[8:12] == sound)
        if is_sound and size == 2**32 - 1 and long_size is not None:
            size = long_size
        end = position + 8 + size + size % 2
        if is_sound:
            yield from _sound_chunk(recording, row, start, position + 8, size, bytes_per_s)
            return
        position = end
    yield Part(row, start, recording.size)


_SOUND_CHUNKS = {"AIFF": b"SSND", "AVI": b"movi", "IFF": b"BODY"}


def _sound_chunk(
    recording: RecordingFile, row: Format, start: int, first: int, size: int, bytes_per_s: int
) -> Iterator[Part]:
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
    is_short = there - size < TOLERANCE_S * bytes_per_s  # rather what a recorder left there than sound
    if row.name == "AVI" or is_short or _is_tail(recording, end) or _is_tail(recording, first + size):
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
    """NIST Sphere, SoX and AVR: headers that count the samples."""
    head = recording.read(start, 1024)
    first = size = 0
    if row.name == "NIST Sphere":
        fields = dict(re.findall(rb"(\w+) -i (\d{1,15})", head))
        counts = [int(fields.get(name, b"0")) for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
        lines = head[:16].split()
        first, size = int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 1024, math.prod(counts)
    elif row.name == "SoX":
        head_bytes, num_samples = struct.unpack("<IQ" if head[:1] == b"." else ">IQ", head[4:16].ljust(12, b"\0"))
        first, size = 4 + head_bytes, 4 * num_samples
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


_SPLITTERS: dict[str, Callable[[RecordingFile, Format, int], Iterator[Part]]] = {
    "WAV": _riff_parts,
    "RF64": _riff_parts,
    "AIFF": _riff_parts,
    "AVI": _riff_parts,
    "IFF": _riff_parts,
    "NIST Sphere": _stated_parts,
    "AVR": _stated_parts,
    "SoX": _stated_parts,
    "Wave64": _sized_chunk,
    "CAF": _sized_chunk,
    "AU": _sized_chunk,
    **dict.fromkeys(MARKS, marked_parts),
    "FLAC": flac_parts,
    "MP3": mp3_parts,
    "AAC": aac_parts,
    "Ogg Vorbis": ogg_parts,
    "Ogg": ogg_parts,
    "MP4": _mp4_parts,
    "Matroska": _matroska_parts,
    "ASF": asf_parts,
}
