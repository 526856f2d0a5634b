"""Reading recordings: the same bits as an earlier commit, its speed, and the speed of FFmpeg without our code.

    python -m tests.benchmarks.decoding [--before COMMIT] [--repetitions N] [--seconds S]

The earlier commit's reader is taken from git, and runs in the same process. WAV and FLAC of every subtype, mono and
stereo, at their own rate and resampled, must be equal bit by bit, as wholes and in parts.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import soundfile

from hf_ast.data import audio
from tests.benchmarks.interleave import interleaved_medians, report
from tests.support.encoding import encode

SUBTYPES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
}
PARTS = ({}, {"start_s": 3.21, "duration_s": 1.5}, {"start_s": 11.0})
TARGET = 0.95


def main() -> None:
    """Print what differs and the ratios; exit with 1 if bits differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="89b5ab5", help="commit with the reader to compare with")
    parser.add_argument("--path", default="hf_ast/audio.py", help="where that reader lies, a file of its own")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a recording for the speed")
    options = parser.parse_args()
    before = reader_of(options.before, options.path)
    with tempfile.TemporaryDirectory() as folder:
        is_equal = compare(before, Path(folder))
        measure(before, Path(folder), options.seconds, options.repetitions)
    sys.exit(0 if is_equal else 1)


def reader_of(commit: str, path: str) -> ModuleType:
    """The reader of a commit, as a module."""
    source = subprocess.run(["git", "show", f"{commit}:{path}"], check=True, capture_output=True, text=True).stdout
    module = ModuleType("audio_before")
    exec(compile(source, path, "exec"), module.__dict__)
    return module


def noise(rate: int, seconds: float, channels: int) -> np.ndarray:
    """Noise that falls with the frequency (S, channels), so that codecs work as for music."""
    steps = np.random.default_rng(0).standard_normal((round(rate * seconds), channels))
    smooth = np.cumsum(steps, axis=0)
    smooth -= np.linspace(0, 1, len(smooth))[:, None] * smooth[-1]
    return (0.9 * smooth / np.abs(smooth).max() + 0.01 * steps).clip(-1, 1).astype(np.float32)


def compare(before: ModuleType, folder: Path) -> bool:
    """Whether both readers give the same bits for every subtype of WAV and FLAC."""
    num_equal = num_all = 0
    for kind, subtypes in SUBTYPES.items():
        for subtype in subtypes:
            for channels in (1, 2):
                path = folder / f"{kind}-{subtype}-{channels}.{kind.lower()}"
                soundfile.write(path, noise(22050, 12.345, channels), 22050, format=kind, subtype=subtype)
                for source in (path, path.read_bytes()):
                    for part, rate in product(PARTS, (None, 16000)):
                        num_all += 1
                        (old, _), (new, _) = (read(source, rate, **part) for read in (before.read, audio.read))
                        if old.dtype == new.dtype and old.tobytes() == new.tobytes():
                            num_equal += 1
                        else:
                            print(f"{path.name} {part} {rate}: differs")
                    num_all += 1
                    num_equal += before.duration(source) == audio.duration(source)
    print(f"{num_equal} of {num_all} results of WAV and FLAC have the same bits", flush=True)
    return num_equal == num_all


def measure(before: ModuleType, folder: Path, seconds: float, repetitions: int) -> None:
    """Print the speed of reading: WAV and FLAC beside the earlier commit, MP3 and AAC beside FFmpeg alone."""
    rate = 44100
    sound = noise(rate, seconds, 2)
    for length_s, channels in product((3.0, seconds), (1, 2)):
        for kind in ("WAV", "FLAC"):
            path = folder / f"{length_s}.{kind.lower()}"
            soundfile.write(path, sound[: round(length_s * rate), :channels], rate, subtype="PCM_16")
            for title, part in {"whole": {}, "1 s of it": {"start_s": 1.0, "duration_s": 1.0}}.items():
                sides = {
                    "now": partial(audio.read, path, **part),
                    "before": partial(before.read, path, **part),
                }
                name = f"{kind}, {('mono', 'stereo')[channels - 1]}, {length_s:.0f} s, {title}"
                report(name, interleaved_medians(sides, repetitions), TARGET)
    for codec, container in (("libmp3lame", "mp3"), ("aac", "ipod"), ("libopus", "webm")):
        content = encode(
            sound.T, 48000 if codec == "libopus" else rate, container, codec, settings={"bit_rate": 128000}
        )
        sides = {"now": partial(audio.read, content), "FFmpeg": partial(by_ffmpeg_alone, content)}
        report(f"{codec} in {container}, {seconds:.0f} s", interleaved_medians(sides, repetitions), 1.0)


def by_ffmpeg_alone(content: bytes) -> np.ndarray:
    """What a short script with PyAV would do: all frames as one mono array."""
    with av.open(io.BytesIO(content)) as container:
        container.streams.audio[0].codec_context.thread_count = 1
        return np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)])


if __name__ == "__main__":
    main()
