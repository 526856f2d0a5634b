"""Labelled recordings for tests of training."""

from pathlib import Path

import numpy as np
import soundfile

RATES_HZ = (8000, 16000, 22050, 44100)
TONES, NOISE, PULSES = "Töne, hohe und tiefe", "noise", "pulses"


def waveform(label: str, rate: int, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """A clip (S,) of a tone, of noise, or of noise that comes and goes eight times per second."""
    time = np.arange(round(rate * duration_s)) / rate
    tone = np.sin(2 * np.pi * rng.uniform(300, 3000) * time)
    noise = rng.standard_normal(len(time)) / 3
    envelope = (np.sin(2 * np.pi * 8 * time + rng.uniform(0, 6)) > 0.3).astype(float)
    return 0.3 * {TONES: tone + 0.01 * noise, NOISE: noise, PULSES: envelope * noise}[label]


def write_folder(folder: Path, num_clips: int = 12, *, seed: int = 0, duration_s: float = 0.5) -> Path:
    """A folder that nobody prepared: rates, channels and lengths differ; an empty, a damaged and a foreign file."""
    rng = np.random.default_rng(seed)
    for label in (TONES, NOISE, PULSES):
        (folder / label).mkdir(parents=True)
        for number in range(num_clips):
            rate = RATES_HZ[number % len(RATES_HZ)]
            clip = waveform(label, rate, duration_s * (0.6, 1.0, 0.9)[number % 3], rng)
            if number % 5 == 1:
                clip = np.stack((clip, 0.5 * clip), axis=1)
            soundfile.write(folder / label / f"{number:02d}.{('wav', 'flac')[number % 2]}", clip, rate)
    (folder / NOISE / "empty.wav").touch()
    soundfile.write(folder / NOISE / "no samples.wav", np.zeros(0), 16000)
    (folder / PULSES / "damaged.flac").write_bytes(b"fLaC" + bytes(range(200)))
    soundfile.write(folder / "of no class.wav", np.zeros(1600), 16000)
    (folder / NOISE / "notes.txt").write_text("no recording")
    return folder


SKIPPED = {f"{NOISE}/empty.wav", f"{NOISE}/no samples.wav", f"{PULSES}/damaged.flac", "of no class.wav"}


def write_wavs(folder: Path, *names: str, duration_s: float = 3.0, rate: int = 8000) -> None:
    """Short recordings that all differ: each is a tone of its own."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(2 * np.pi * (200 + 70 * number) * np.arange(round(rate * duration_s)) / rate)
        soundfile.write(path, 0.3 * tone, rate)
