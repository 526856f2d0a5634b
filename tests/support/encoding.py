"""Recordings in every format that the package reads, encoded here: one entry per codec in the table of formats."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import soundfile

MARKER_HZ = 1000.0


def marked(rate: int, duration_s: float = 1.5) -> np.ndarray:
    """A tone with a beat, float32 (S,), whose last 0.3 s are 1 kHz: what is cut at the end is missed."""
    times = np.arange(round(rate * duration_s)) / rate
    waveform = 0.3 * np.sin(2 * np.pi * 440 * times) * (1 + 0.5 * np.sin(2 * np.pi * 3 * times))
    last = times >= duration_s - 0.3
    waveform[last] = 0.5 * np.sin(2 * np.pi * MARKER_HZ * times[last])
    return waveform.astype(np.float32)


def ends_with_the_marker(waveform: np.ndarray, rate: int) -> bool:
    """Whether the last 0.2 s, less what codecs add behind the end, are mostly 1 kHz."""
    part = waveform[-round(0.25 * rate) : -round(0.05 * rate)]
    frequency_hz = np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * rate / len(part)
    return abs(float(frequency_hz) - MARKER_HZ) <= 20


def encode(
    waveform: np.ndarray,
    rate: int,
    container: str,
    codec: str,
    *,
    settings: dict[str, Any] | None = None,
    **options: str,
) -> bytes:
    """Encode a mono waveform (S,), or several (channels, S), by FFmpeg."""
    channels = np.atleast_2d(waveform).astype(np.float32)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        context = stream.codec_context
        context.layout = {1: "mono", 2: "stereo", 8: "7.1"}[len(channels)]
        context.format = (settings or {}).get("format") or context.codec.audio_formats[0].name
        context.time_base = Fraction(1, rate)
        if "bit_rate" in (settings or {}):
            context.bit_rate = settings["bit_rate"]
        if codec == "vorbis":
            context.options = {"strict": "experimental"}
        context.open()
        resampler = av.AudioResampler(format=context.format, layout=context.layout, rate=rate)
        size = context.frame_size or 1024
        for first in range(0, channels.shape[1], size):
            part = channels[:, first : first + size].T.reshape(1, -1)  # in planes, PyAV takes at most seven channels
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=context.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            for piece in resampler.resample(frame):
                output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def by_soundfile(format: str, subtype: str) -> Callable[[np.ndarray, int], bytes]:
    def write(waveform: np.ndarray, rate: int) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, np.atleast_2d(waveform).T, rate, format=format, subtype=subtype)
        return buffer.getvalue()

    return write


def by_ffmpeg(
    container: str, codec: str, settings: dict[str, Any] | None = None
) -> Callable[[np.ndarray, int], bytes]:
    return lambda waveform, rate: encode(waveform, rate, container, codec, settings=settings)


@dataclass(frozen=True)
class Case:
    """How a recording in a format is made, and how exact it comes back.

    Attributes:
        make: Encodes a waveform (S,) at a rate.
        rate: In Hz.
        max_extra: Samples that the decoder may return behind the end: the codec fills up its last block, and its
            container has no place to say so; also before the beginning, where the delay is not stated either.
        max_lacking: Samples that may be missing at the end.
        is_joinable: Whether such a file may be followed by another.
        is_cut_noticed: Whether the format states its length, so that a cut is noticed.
    """

    make: Callable[[np.ndarray, int], bytes]
    rate: int = 16000
    max_extra: int = 0
    max_lacking: int = 0
    is_joinable: bool = True
    is_cut_noticed: bool = True


MP3 = {"bit_rate": 64000}
AMR = {"bit_rate": 12200}
WMA = {"bit_rate": 64000}
CASES: dict[tuple[str, str], Case] = {
    ("WAV", "PCM"): Case(by_soundfile("WAV", "PCM_16")),
    ("WAV", "float"): Case(by_soundfile("WAV", "FLOAT")),
    ("WAV", "A-law"): Case(by_soundfile("WAV", "ALAW")),
    ("WAV", "mu-law"): Case(by_soundfile("WAV", "ULAW")),
    ("WAV", "ADPCM"): Case(by_soundfile("WAV", "IMA_ADPCM"), max_extra=1017),
    ("WAV", "GSM"): Case(by_soundfile("WAV", "GSM610"), 8000, max_extra=320),
    ("WAV", "MP3"): Case(by_ffmpeg("wav", "libmp3lame", MP3), max_extra=2304),
    ("RF64", "PCM"): Case(by_soundfile("RF64", "PCM_24")),
    ("RF64", "float"): Case(by_soundfile("RF64", "DOUBLE")),
    ("Wave64", "PCM"): Case(by_soundfile("W64", "PCM_16")),
    ("Wave64", "float"): Case(by_soundfile("W64", "FLOAT")),
    ("AIFF", "PCM"): Case(by_soundfile("AIFF", "PCM_24")),
    ("AIFF", "float"): Case(by_soundfile("AIFF", "FLOAT")),
    ("AIFF", "A-law"): Case(by_soundfile("AIFF", "ALAW")),
    ("AIFF", "mu-law"): Case(by_soundfile("AIFF", "ULAW")),
    ("CAF", "PCM"): Case(by_soundfile("CAF", "PCM_16"), is_joinable=False),
    ("CAF", "float"): Case(by_soundfile("CAF", "FLOAT"), is_joinable=False),
    ("CAF", "A-law"): Case(by_soundfile("CAF", "ALAW"), is_joinable=False),
    ("CAF", "mu-law"): Case(by_soundfile("CAF", "ULAW"), is_joinable=False),
    ("CAF", "ALAC"): Case(by_soundfile("CAF", "ALAC_16"), is_joinable=False),
    ("AU", "PCM"): Case(by_soundfile("AU", "PCM_16")),
    ("AU", "float"): Case(by_soundfile("AU", "FLOAT")),
    ("AU", "A-law"): Case(by_soundfile("AU", "ALAW")),
    ("AU", "mu-law"): Case(by_soundfile("AU", "ULAW")),
    ("FLAC", "FLAC"): Case(by_soundfile("FLAC", "PCM_16")),
    ("Ogg Vorbis", "Vorbis"): Case(by_soundfile("OGG", "VORBIS")),
    ("Ogg", "Opus"): Case(by_ffmpeg("ogg", "libopus"), 48000),
    ("Ogg", "FLAC"): Case(by_ffmpeg("ogg", "flac")),
    ("MP3", "MP3"): Case(by_ffmpeg("mp3", "libmp3lame", MP3), 44100),
    ("MP3", "MP2"): Case(by_ffmpeg("mp2", "mp2"), 44100, max_extra=1152, is_cut_noticed=False),
    ("AAC", "AAC"): Case(by_ffmpeg("adts", "aac"), 44100, max_extra=2048, is_cut_noticed=False),
    ("LATM", "AAC"): Case(by_ffmpeg("latm", "aac"), 44100, max_extra=2048, is_cut_noticed=False),
    # Movies count in milliseconds, and so state the length of their sound
    ("MP4", "AAC"): Case(by_ffmpeg("ipod", "aac"), 44100, max_lacking=44),
    ("MP4", "ALAC"): Case(by_ffmpeg("ipod", "alac")),
    ("MP4", "MP3"): Case(by_ffmpeg("mp4", "libmp3lame", MP3), 44100, max_lacking=44),
    ("MP4", "AC-3"): Case(by_ffmpeg("mp4", "ac3"), 44100, max_extra=1536),
    ("MP4", "Opus"): Case(by_ffmpeg("mp4", "libopus"), 48000, max_lacking=48),
    ("MP4", "FLAC"): Case(by_ffmpeg("mp4", "flac")),
    ("MP4", "PCM"): Case(by_ffmpeg("mov", "pcm_s16le")),
    ("MP4", "AMR"): Case(by_ffmpeg("3gp", "libopencore_amrnb", AMR), 8000, max_extra=160),
    ("Matroska", "Opus"): Case(by_ffmpeg("webm", "libopus"), 48000),
    ("Matroska", "Vorbis"): Case(
        lambda waveform, rate: encode(np.stack([waveform, waveform]), rate, "webm", "vorbis"), 44100, max_extra=2048
    ),
    ("Matroska", "AAC"): Case(by_ffmpeg("matroska", "aac"), 44100, max_extra=1024),
    ("Matroska", "MP3"): Case(by_ffmpeg("matroska", "libmp3lame", MP3), 44100),
    ("Matroska", "FLAC"): Case(by_ffmpeg("matroska", "flac")),
    ("Matroska", "PCM"): Case(by_ffmpeg("matroska", "pcm_s16le")),
    ("ASF", "WMA 1"): Case(by_ffmpeg("asf", "wmav1", WMA), 44100, max_extra=2048, max_lacking=2048),
    ("ASF", "WMA 2"): Case(by_ffmpeg("asf", "wmav2", WMA), 44100, max_extra=2048, max_lacking=2048),
    ("AMR", "AMR-NB"): Case(by_ffmpeg("amr", "libopencore_amrnb", AMR), 8000, max_extra=160, is_cut_noticed=False),
    ("AVI", "PCM"): Case(by_ffmpeg("avi", "pcm_s16le")),
    ("AVI", "MP3"): Case(by_ffmpeg("avi", "libmp3lame", MP3), 44100, max_extra=2304),
    ("AVI", "AC-3"): Case(by_ffmpeg("avi", "ac3"), 44100, max_extra=1536),
    ("FLV", "MP3"): Case(by_ffmpeg("flv", "libmp3lame", MP3), 44100, max_extra=2304),
    ("FLV", "AAC"): Case(by_ffmpeg("flv", "aac"), 44100, max_extra=2048),
    ("MPEG-TS", "AAC"): Case(by_ffmpeg("mpegts", "aac"), 44100, max_extra=2048, is_cut_noticed=False),
    ("MPEG-TS", "MP2"): Case(by_ffmpeg("mpegts", "mp2"), 44100, max_extra=1152, is_cut_noticed=False),
    ("MPEG-TS", "MP3"): Case(by_ffmpeg("mpegts", "libmp3lame", MP3), 44100, max_extra=2304, is_cut_noticed=False),
    ("MPEG-TS", "AC-3"): Case(by_ffmpeg("mpegts", "ac3"), 44100, max_extra=1536, is_cut_noticed=False),
    ("MPEG-PS", "MP2"): Case(by_ffmpeg("mpeg", "mp2"), 44100, max_extra=1152, is_cut_noticed=False),
    ("MPEG-PS", "AC-3"): Case(by_ffmpeg("vob", "ac3"), 44100, max_extra=1536, is_cut_noticed=False),
    ("AC-3", "AC-3"): Case(by_ffmpeg("ac3", "ac3"), 44100, max_extra=1536, is_cut_noticed=False),
    ("AC-3", "E-AC-3"): Case(by_ffmpeg("eac3", "eac3"), 44100, max_extra=1536, is_cut_noticed=False),
    ("WavPack", "WavPack"): Case(by_ffmpeg("wv", "wavpack")),
    ("True Audio", "TTA"): Case(by_ffmpeg("tta", "tta")),
    ("NUT", "Vorbis"): Case(
        lambda waveform, rate: encode(np.stack([waveform, waveform]), rate, "nut", "vorbis"),
        44100,
        max_extra=2048,
        is_cut_noticed=False,
    ),
    ("NUT", "FLAC"): Case(by_ffmpeg("nut", "flac"), is_cut_noticed=False),
    ("NUT", "PCM"): Case(by_ffmpeg("nut", "pcm_s16le"), is_cut_noticed=False),
    ("SoX", "PCM"): Case(by_ffmpeg("sox", "pcm_s32le"), is_joinable=False),
    ("VOC", "PCM"): Case(by_soundfile("VOC", "PCM_16"), is_cut_noticed=False),
    ("VOC", "A-law"): Case(by_soundfile("VOC", "ALAW"), max_extra=1, is_cut_noticed=False),
    ("VOC", "mu-law"): Case(by_soundfile("VOC", "ULAW"), max_extra=1, is_cut_noticed=False),
    ("IFF", "PCM"): Case(by_soundfile("SVX", "PCM_16")),
    ("NIST Sphere", "PCM"): Case(by_soundfile("NIST", "PCM_16"), is_joinable=False),
    ("NIST Sphere", "A-law"): Case(by_soundfile("NIST", "ALAW"), is_joinable=False, is_cut_noticed=False),
    ("NIST Sphere", "mu-law"): Case(by_soundfile("NIST", "ULAW"), is_joinable=False, is_cut_noticed=False),
    ("IRCAM", "PCM"): Case(by_soundfile("IRCAM", "PCM_16"), is_joinable=False, is_cut_noticed=False),
    ("IRCAM", "float"): Case(by_soundfile("IRCAM", "FLOAT"), is_joinable=False, is_cut_noticed=False),
    ("IRCAM", "A-law"): Case(by_soundfile("IRCAM", "ALAW"), is_joinable=False, is_cut_noticed=False),
    ("IRCAM", "mu-law"): Case(by_soundfile("IRCAM", "ULAW"), is_joinable=False, is_cut_noticed=False),
    ("AVR", "PCM"): Case(by_soundfile("AVR", "PCM_16"), is_joinable=False),
    ("PAF", "PCM"): Case(by_soundfile("PAF", "PCM_16"), is_joinable=False, is_cut_noticed=False),
    ("PVF", "PCM"): Case(by_soundfile("PVF", "PCM_16"), is_joinable=False, is_cut_noticed=False),
    ("SDS", "PCM"): Case(by_soundfile("SDS", "PCM_16"), is_joinable=False),
    ("WVE", "A-law"): Case(by_soundfile("WVE", "ALAW"), 8000, is_joinable=False, is_cut_noticed=False),
    ("XI", "DPCM"): Case(by_soundfile("XI", "DPCM_16"), 44100, is_joinable=False, is_cut_noticed=False),
    ("HTK", "PCM"): Case(by_soundfile("HTK", "PCM_16"), is_joinable=False, is_cut_noticed=False),
}
