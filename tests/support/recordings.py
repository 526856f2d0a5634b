"""Recordings for tests."""

from pathlib import Path

import numpy as np

from .encoding import by_ffmpeg, by_soundfile

# Name of a file of each kind -> what encodes it, and its sampling rate
KINDS = {
    "pcm.wav": (by_soundfile("WAV", "PCM_16"), 16000),
    "float.WAV": (by_soundfile("WAV", "FLOAT"), 22050),
    "gsm.wav": (by_soundfile("WAV", "GSM610"), 8000),
    "lossless.flac": (by_soundfile("FLAC", "PCM_16"), 44100),
    "apple.aiff": (by_soundfile("AIFF", "PCM_16"), 16000),
    "apple.caf": (by_soundfile("CAF", "PCM_16"), 16000),
    "sun.au": (by_soundfile("AU", "ULAW"), 8000),
    "sony.w64": (by_soundfile("W64", "PCM_24"), 16000),
    "vorbis.ogg": (by_soundfile("OGG", "VORBIS"), 32000),
    "no_suffix": (by_soundfile("WAV", "PCM_16"), 16000),
    "take.1": (by_soundfile("FLAC", "PCM_16"), 16000),
    "music.mp3": (by_ffmpeg("mp3", "libmp3lame"), 44100),
    "stream.aac": (by_ffmpeg("adts", "aac"), 16000),
    "phone.m4a": (by_ffmpeg("ipod", "aac"), 16000),
    "lossless.m4a": (by_ffmpeg("ipod", "alac"), 16000),
    "video.mp4": (by_ffmpeg("mp4", "aac"), 44100),
    "video.mov": (by_ffmpeg("mov", "pcm_s16le"), 16000),
    "meeting.webm": (by_ffmpeg("webm", "libopus"), 48000),
    "film.mkv": (by_ffmpeg("matroska", "ac3"), 48000),
    "old.wma": (by_ffmpeg("asf", "wmav2", {"bit_rate": 64_000}), 44100),
}


def sine(rate: int, duration_s: float = 1.0, frequency_hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(int(duration_s * rate)) / rate)).astype(np.float32)


def write_kinds(folder: Path, duration_s: float = 0.5, frequency_hz: float = 440.0, stem: str = "") -> list[str]:
    """Write a tone as a file of each of `KINDS`, and return their names, which begin with the stem."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (encode, rate) in KINDS.items():
        (folder / f"{stem}{name}").write_bytes(encode(sine(rate, duration_s, frequency_hz), rate))
    return [f"{stem}{name}" for name in KINDS]


def break_file(path: Path, number: int) -> None:
    """Make a file one that cannot be read, in one of several ways, by a number."""
    content = path.read_bytes()
    way = number % 5
    if path.suffix in ("", ".1") or way == 0:
        path.write_bytes(content[:44])  # nothing but a beginning
    elif way == 1:
        path.write_bytes(b"")
    elif way == 2:
        path.write_text("<!doctype html><title>404 not found</title>")
    elif way == 3:
        path.write_bytes(np.random.default_rng(number).bytes(len(content)))
    else:
        path.unlink()
        path.symlink_to("nowhere")
