"""The one table of the formats that recordings come in: how each is recognised, and which decoder reads it.

A recording is recognised by its first bytes; suffixes only tell which files of a folder are meant as recordings, and
stand in for the few formats that have no signature. docs/recordings.md shows the same table.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

# As many bytes from the start of a file as `find_format` and `looks_like_media` need to see
HEAD_BYTES = 4096


class RecordingWarning(UserWarning):
    """Something is wrong with a recording that is still read: it is cut or damaged, or was changed to fit."""


@dataclass(frozen=True)
class Format:
    """A row of the table.

    Attributes:
        name: What people call it.
        suffixes: Suffixes of its files, with the dot. A suffix belongs to one format.
        signature: What its files begin with, as a regular expression; None if the first bytes alone do not tell.
        decoders: Who reads it, "soundfile" or "av" (FFmpeg by PyAV); the second reads what the first cannot.
        demuxers: What FFmpeg calls it. No other demuxer is tried, so that no file can make FFmpeg open other files.
        codecs: Those that our tests read. Without any, FFmpeg reads it, but we have no encoder to test it with.
    """

    name: str
    suffixes: tuple[str, ...]
    signature: bytes | None
    decoders: tuple[str, ...]
    demuxers: str = ""
    codecs: str = ""


SOUNDFILE_FIRST, AV_FIRST = ("soundfile", "av"), ("av", "soundfile")

# fmt: off
FORMATS = (
    Format("WAV", (".wav", ".wave", ".bwf"), rb"RI(FF|FX)....WAVE", SOUNDFILE_FIRST, "wav",
           "PCM, float, A-law, mu-law, ADPCM, GSM, MP3"),
    Format("RF64", (".rf64", ".bw64"), rb"(RF64|BW64)....WAVE", SOUNDFILE_FIRST, "wav", "PCM, float"),
    Format("Wave64", (".w64",), rb"riff\x2e\x91\xcf\x11", SOUNDFILE_FIRST, "w64", "PCM, float"),
    Format("AIFF", (".aiff", ".aif", ".aifc"), rb"FORM....AIF[FC]", SOUNDFILE_FIRST, "aiff",
           "PCM, float, A-law, mu-law"),
    Format("CAF", (".caf",), rb"caff\0\x01", SOUNDFILE_FIRST, "caf", "PCM, float, A-law, mu-law, ALAC"),
    Format("AU", (".au", ".snd"), rb"\.snd|dns\.", SOUNDFILE_FIRST, "au", "PCM, float, A-law, mu-law"),
    Format("FLAC", (".flac", ".fla"), rb"fLaC", SOUNDFILE_FIRST, "flac", "FLAC"),
    Format("Ogg Vorbis", (".ogg", ".oga"), rb"OggS\0.{21}\x01\x1e\x01vorbis", SOUNDFILE_FIRST, "ogg", "Vorbis"),
    Format("Ogg", (".opus", ".spx", ".ogv"), rb"OggS\0", AV_FIRST, "ogg", "Opus, FLAC"),
    Format("MP3", (".mp3", ".mp2", ".mp1", ".mpga"), None, AV_FIRST, "mp3", "MP3, MP2"),
    Format("AAC", (".aac", ".adts"), None, ("av",), "aac", "AAC"),
    Format("LATM", (".loas", ".latm"), rb"\x56[\xe0-\xff].\x20", ("av",), "loas", "AAC"),
    Format("MP4", (".m4a", ".m4b", ".m4r", ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".f4v", ".f4a"),
           rb"....(ftyp|moov|mdat|wide|free|skip|pnot)", ("av",), "mov,mp4,m4a,3gp,3g2,mj2",
           "AAC, ALAC, MP3, AC-3, Opus, FLAC, PCM, AMR"),
    Format("Matroska", (".mkv", ".mka", ".webm", ".weba"), rb"\x1a\x45\xdf\xa3", ("av",), "matroska,webm",
           "Opus, Vorbis, AAC, MP3, FLAC, PCM"),
    Format("ASF", (".wma", ".wmv", ".asf"), rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ("av",), "asf", "WMA 1, WMA 2"),
    Format("AMR", (".amr", ".awb"), rb"#!AMR", ("av",), "amr,amrnb,amrwb", "AMR-NB"),
    Format("AVI", (".avi", ".divx"), rb"RIFF....AVI[ X\x19]", ("av",), "avi", "PCM, MP3, AC-3"),
    Format("FLV", (".flv",), rb"FLV\x01", ("av",), "flv", "MP3, AAC"),
    # `.ts` is the suffix of TypeScript, too, so that it takes the signature to know such a file
    Format("MPEG-TS", (".m2ts", ".mts"), rb"G.{187}G|....G.{191}G", ("av",), "mpegts", "AAC, MP2, MP3, AC-3"),
    Format("MPEG-PS", (".mpg", ".mpeg", ".vob"), rb"\0\0\x01\xba", ("av",), "mpeg", "MP2, AC-3"),
    Format("AC-3", (".ac3", ".eac3", ".ec3"), rb"\x0b\x77", ("av",), "ac3,eac3", "AC-3, E-AC-3"),
    Format("WavPack", (".wv",), rb"wvpk", ("av",), "wv", "WavPack"),
    Format("True Audio", (".tta",), rb"TTA[12]", ("av",), "tta", "TTA"),
    Format("NUT", (".nut",), rb"nut/multimedia container\0", ("av",), "nut", "Vorbis, FLAC, PCM"),
    Format("SoX", (".sox",), rb"\.SoX|XoS\.", ("av",), "sox", "PCM"),
    # libsndfile takes the heads of all blocks but the first for sound
    Format("VOC", (".voc",), rb"Creative Voice File", AV_FIRST, "voc", "PCM, A-law, mu-law"),
    Format("IFF", (".iff", ".svx", ".8svx"), rb"FORM....(8SVX|16SV)", SOUNDFILE_FIRST, "iff", "PCM"),
    Format("NIST Sphere", (".nist", ".sph"), rb"NIST_1A", SOUNDFILE_FIRST, "nistsphere", "PCM, A-law, mu-law"),
    Format("IRCAM", (".ircam", ".sf"), rb"\x64\xa3[\0-\x04]\0|\0[\0-\x04]\xa3\x64", SOUNDFILE_FIRST, "ircam",
           "PCM, float, A-law, mu-law"),
    Format("AVR", (".avr",), rb"2BIT", SOUNDFILE_FIRST, "avr", "PCM"),
    Format("PAF", (".paf",), rb" paf|fap ", SOUNDFILE_FIRST, "paf", "PCM"),
    Format("PVF", (".pvf",), rb"PVF1", SOUNDFILE_FIRST, "pvf", "PCM"),
    Format("SDS", (".sds",), rb"\xf0\x7e.\x01", SOUNDFILE_FIRST, "sds", "PCM"),
    Format("WVE", (".wve",), rb"ALawSoundFile\*\*", ("soundfile",), "", "A-law"),
    Format("XI", (".xi",), rb"Extended Instrument: ", ("soundfile",), "", "DPCM"),
    Format("HTK", (".htk",), None, ("soundfile",), "", "PCM"),
    Format("Monkey's Audio", (".ape",), rb"MAC ", ("av",), "ape"),
    Format("Musepack", (".mpc", ".mp+", ".mpp"), rb"MP\+|MPCK", ("av",), "mpc,mpc8"),
    Format("DTS", (".dts",), rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|DTSHDHDR", ("av",), "dts,dtshd"),
    Format("TrueHD", (".thd", ".mlp"), rb"....\xf8\x72\x6f[\xba\xbb]", ("av",), "truehd,mlp"),
    Format("TAK", (".tak",), rb"tBaK", ("av",), "tak"),
    Format("DSD", (".dsf", ".dff"), rb"DSD |FRM8.{8}DSD ", ("av",), "dsf,iff"),
    Format("RealMedia", (".rm", ".ra", ".rmvb"), rb"\.RMF|\.ra\xfd", ("av",), "rm"),
    Format("MXF", (".mxf",), rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", ("av",), "mxf"),
    Format("WTV", (".wtv",), rb"\xb7\xd8\x00\x20\x37\x49\xda\x11", ("av",), "wtv"),
    Format("Quite OK Audio", (".qoa",), rb"qoaf", ("av",), "qoa"),
    Format("QCP", (".qcp",), rb"RIFF....QLCM", ("av",), "qcp"),
    Format("Shorten", (".shn",), rb"ajkg", ("av",), "shn"),
)
# fmt: on
# Suffixes of all recordings that are read, audio and video, in small letters
SUFFIXES = frozenset(suffix for row in FORMATS for suffix in row.suffixes)
BY_NAME = {row.name: row for row in FORMATS}

_SIGNATURES = tuple((row, re.compile(row.signature, re.DOTALL)) for row in FORMATS if row.signature)
# Samples per frame of MPEG audio, by the version (as in the header: 0 is 2.5, 2 is 2, 3 is 1) and layer (1 to 3)
_LAYER_SAMPLES = {1: (384, 384), 2: (1152, 1152), 3: (1152, 576)}
_BITRATES = {  # in kbit/s, by whether the version is 1, and the layer
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class MpegFrame:
    """What the four bytes say that every frame of MPEG audio begins with.

    Attributes:
        rate: Sampling rate in Hz.
        num_samples: Samples of each channel.
        num_bytes: Its length with the header.
        side_bytes: Where the data of layer 3 begin, which is where encoders leave their own header.
    """

    rate: int
    num_samples: int
    num_bytes: int
    side_bytes: int


def find_format(head: bytes, *, num_frames: int = 2) -> Format | None:
    """Return the format of a file that begins with these bytes, of which `HEAD_BYTES` are enough, or None.

    Frames of MPEG audio have no signature; `num_frames` of them must follow each other.
    """
    for row, signature in _SIGNATURES:
        if signature.match(head):
            return row
    if _is_chain(head, frame_bytes, num_frames):
        return BY_NAME["MP3"]
    return BY_NAME["AAC"] if _is_chain(head, adts_bytes, num_frames) else None


def looks_like_media(head: bytes) -> bool:
    """Tell whether a file that begins with these bytes is a recording, or a video, that `hf_ast` may read.

    Args:
        head: The first `HEAD_BYTES` of the file, or all of it.
    """
    return id3_bytes(head) > 0 or find_format(head) is not None


def id3_bytes(head: bytes) -> int:
    """Length of the ID3 tag that a file begins with, 0 if there is none; any format may follow it."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] not in (2, 3, 4) or max(head[6:10]) > 127:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def mpeg_frame(header: bytes) -> MpegFrame | None:
    """Read the header of a frame of MPEG audio, layers 1 to 3; None if it is not one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    rate_hz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    num_samples = _LAYER_SAMPLES[layer][not is_first]
    unit = 4 if layer == 1 else 1
    kilobits = _BITRATES[is_first, layer][bitrate]
    length = (num_samples * kilobits * 125 // (rate_hz * unit) + (header[2] >> 1 & 1)) * unit
    is_mono = header[3] >> 6 == 3
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return MpegFrame(rate_hz, num_samples, length, 4 + side)


def frame_bytes(header: bytes) -> int:
    """Length of the frame of MPEG audio, layers 1 to 3, that begins with these bytes; 0 if none does."""
    frame = mpeg_frame(header)
    return frame.num_bytes if frame else 0


def adts_bytes(header: bytes) -> int:
    """Length of the frame of AAC (ADTS) that begins with these bytes; 0 if none does."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


def _is_chain(head: bytes, length_of: Callable[[bytes], int], num_frames: int) -> bool:
    """Whether that many frames follow each other."""
    position = 0
    for _ in range(num_frames):
        length = length_of(head[position : position + 8])
        if length == 0:
            return False
        position += length
    return True
