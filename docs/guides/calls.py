"""Recordings with calls as of birds, and selection tables of Raven beside them, for the guide to sound events.

    python -m docs.guides.calls FOLDER [--recordings 40] [--seconds 10] [--seed 0]

Everything follows from the seed.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
CALLS = ("chirp", "trill")
Mark = tuple[str, float, float]


def call(label: str, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """A call (S,): a chirp rises from 1 to 3 kHz, a trill of 5 kHz comes and goes thirty times per second."""
    time = np.arange(round(duration_s * RATE)) / RATE
    if label == "chirp":
        sound = np.sin(2 * np.pi * (1000 * time + 1000 * time**2 / duration_s))
    else:
        sound = np.sin(2 * np.pi * 5000 * time) * (np.sin(2 * np.pi * 30 * time) > 0)
    return rng.uniform(0.2, 0.5) * sound * np.minimum(1, 100 * np.minimum(time, time[::-1]))


def soundscape(
    duration_s: float, rng: np.random.Generator, *, is_empty: bool = False
) -> tuple[np.ndarray, list[Mark]]:
    """Calls with pauses in noise (S,), and when they are heard, with six decimals as in Raven."""
    sound = 0.02 * rng.standard_normal(round(duration_s * RATE))
    marks: list[Mark] = []
    start = rng.uniform(0.2, 0.8)
    while not is_empty and (end := start + rng.uniform(0.3, 0.8)) < duration_s - 0.1:
        label = str(rng.choice(CALLS))
        one = call(label, end - start, rng)
        first = round(start * RATE)
        sound[first : first + len(one)] += one
        marks.append((label, round(start, 6), round(end, 6)))
        start = end + rng.uniform(0.3, 1.0)
    return sound, marks


def write_calls(
    folder: Path, num_recordings: int = 8, *, duration_s: float = 4.0, seed: int = 0
) -> dict[str, list[Mark]]:
    """Recordings with selection tables of Raven beside them; every fourth has no call, and an empty table.

    Returns:
        Name of each recording -> what is marked in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    marked = {}
    for number in range(num_recordings):
        sound, marks = soundscape(duration_s, rng, is_empty=number % 4 == 3)
        soundfile.write(folder / f"{number:02d}.wav", sound, RATE)
        rows = ["Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies"]
        rows += [
            f"{row}\tSpectrogram 1\t1\t{start:.6f}\t{end:.6f}\t1000.0\t5000.0\t{label}"
            for row, (label, start, end) in enumerate(marks, start=1)
        ]
        (folder / f"{number:02d}.Table.1.selections.txt").write_text("\n".join(rows) + "\n")
        marked[f"{number:02d}.wav"] = marks
    return marked


def main() -> None:
    """Write the recordings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_calls(arguments.folder, arguments.recordings, duration_s=arguments.seconds, seed=arguments.seed)


if __name__ == "__main__":
    main()
