"""The recordings of the guides. All are synthetic, and the same in every run.

    python -m docs.guides.sounds words DIR --voices train --number 10 [--words lights music]
    python -m docs.guides.sounds background DIR --voices train --number 20 [--words lights music]
    python -m docs.guides.sounds recording FILE --minutes 60 [--words lights music]
    python -m docs.guides.sounds unlabelled DIR --number 1000

Speech is that of espeak-ng (extra `recipes`). The voices "train" and "test" have none in common.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from hf_ast.recipes.keywords.clips import KEYWORDS, OTHER_WORDS, UNKNOWN
from hf_ast.recipes.keywords.speech import (
    NOISE_KINDS,
    SAMPLING_RATE_HZ,
    make_noise,
    mix_at_snr,
    place,
    random_voice,
    set_peak,
    synthesize,
)
from hf_ast.recipes.keywords.spotting import Word

WORDS = ("lights", "music", "heating", "window", "camera", "curtain")
CLIP_S = 1.4
SNR_DB = (10.0, 30.0)

# Of a long recording: pauses between words, the share of words that nobody looks for, and other sounds
PAUSE_S = (5.0, 35.0)
SHARE_OF_OTHER_WORDS = 0.3
SHARE_OF_MINUTES_WITH_SOUND = 0.3
SOUND_S = 8.0


def say(word: str, voices: str, rng: np.random.Generator) -> np.ndarray:
    """Say a word with a random voice of a split, shape (S,)."""
    return synthesize(word, random_voice(voices, rng), int(rng.integers(110, 240)), int(rng.integers(20, 80)))


def record(sound: np.ndarray, rng: np.random.Generator, duration_s: float = CLIP_S) -> np.ndarray:
    """Record a sound: somewhere in a clip, with pink noise, at a random level, shape (S,)."""
    clip = place(sound, max(len(sound), round(duration_s * SAMPLING_RATE_HZ)), rng)
    noisy = mix_at_snr(clip, make_noise("pink", len(clip), rng), rng.uniform(*SNR_DB))
    return set_peak(noisy, rng.uniform(-20, -3))


def other_words(words: Sequence[str]) -> list[str]:
    """Everyday words that are not among the given ones."""
    return sorted({*OTHER_WORDS} - {*words})


def write_words(folder: Path, words: Sequence[str], voices: str, number: int) -> None:
    """Write `number` recordings of each word, in a folder of its own."""
    for word in words:
        rng = np.random.default_rng([*word.encode(), *voices.encode()])
        write_clips(folder / word, [record(say(word, voices, rng), rng) for _ in range(number)], voices)


def write_background(folder: Path, words: Sequence[str], voices: str, number: int) -> None:
    """Write `number` recordings without any of the words: other words, and other sounds."""
    rng = np.random.default_rng([*b"background", *voices.encode()])
    others = other_words(words)
    spoken = [say(str(rng.choice(others)), voices, rng) for _ in range(number)]
    kinds = [NOISE_KINDS[index % len(NOISE_KINDS)] for index in range(number // 2)]
    num_samples = round(CLIP_S * SAMPLING_RATE_HZ)
    sounds = [set_peak(make_noise(kind, num_samples, rng, spoken), rng.uniform(-40, -3)) for kind in kinds]
    write_clips(folder, sounds + [record(word, rng) for word in spoken[len(sounds) :]], voices)


def write_unlabelled(folder: Path, number: int) -> None:
    """Write `number` recordings of any words by training voices, in two folders, as a recorder makes one per day."""
    rng = np.random.default_rng([*b"unlabelled"])
    words = other_words([]) + list(KEYWORDS)
    clips = [record(say(str(rng.choice(words)), "train", rng), rng) for _ in range(number)]
    for day in (0, 1):
        write_clips(folder / f"day-{day + 1}", clips[day::2], "clip")


def write_clips(folder: Path, clips: Sequence[np.ndarray], name: str) -> None:
    """Write clips as WAV files with numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(clips):
        soundfile.write(folder / f"{name}-{number:04d}.wav", clip, SAMPLING_RATE_HZ)


def write_recording(file: Path, words: Sequence[str], minutes: int) -> None:
    """Write a long recording, minute by minute, and beside it a table of the words in it, as CSV.

    Words of test voices are far between: those that are given, and others, which the table calls `_unknown_`. Behind
    them is noise, whose level rises and falls, and now and then a hum, clicks, or people who talk in another room.
    """
    rng = np.random.default_rng([*b"recording", *" ".join(words).encode()])
    others = other_words(words)
    talkers = [say(word, "test", rng) for word in others[:20]]
    with (
        soundfile.SoundFile(file, "w", SAMPLING_RATE_HZ, 1) as stream,
        file.with_suffix(".csv").open("w", newline="", encoding="utf-8") as table,
    ):
        rows = csv.writer(table)
        rows.writerow(Word._fields)
        for minute in range(minutes):
            sound = background_minute(rng, talkers)
            position_s = rng.uniform(1, PAUSE_S[1])
            while position_s < 58:  # no word is longer than two seconds
                is_other = rng.random() < SHARE_OF_OTHER_WORDS
                word = str(rng.choice(others if is_other else words))
                spoken = say(word, "test", rng)
                start = round(position_s * SAMPLING_RATE_HZ)
                sound[start : start + len(spoken)] += spoken * (rng.uniform(0.05, 0.4) / np.abs(spoken).max())
                start_s, duration_s = 60 * minute + position_s, len(spoken) / SAMPLING_RATE_HZ
                rows.writerow([UNKNOWN if is_other else word, f"{start_s:.2f}", f"{start_s + duration_s:.2f}"])
                position_s += duration_s + rng.uniform(*PAUSE_S)
            stream.write(np.clip(sound, -1, 1))


def background_minute(rng: np.random.Generator, talkers: Sequence[np.ndarray]) -> np.ndarray:
    """A minute of pink noise at a random level, about one in three with a few seconds of another sound."""
    level = 10 ** (rng.uniform(-55, -40) / 20)
    sound = level * make_noise("pink", 60 * SAMPLING_RATE_HZ, rng)
    if rng.random() < SHARE_OF_MINUTES_WITH_SOUND:
        kind = str(rng.choice(["hum", "clicks", "babble"]))
        other = 3 * level * make_noise(kind, round(SOUND_S * SAMPLING_RATE_HZ), rng, talkers)
        start = int(rng.integers(len(sound) - len(other)))
        sound[start : start + len(other)] += other * np.hanning(len(other))
    return sound


def main() -> None:
    """Make recordings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("words", "background"):
        command = commands.add_parser(name)
        command.add_argument("out", type=Path, metavar="DIR")
        command.add_argument("--words", nargs="+", default=WORDS)
        command.add_argument("--voices", choices=("train", "test"), default="train")
        command.add_argument("--number", type=int, default=10, help="recordings, of each word")
    command = commands.add_parser("unlabelled")
    command.add_argument("out", type=Path, metavar="DIR")
    command.add_argument("--number", type=int, default=1000, help="recordings")
    command = commands.add_parser("recording")
    command.add_argument("out", type=Path, metavar="FILE")
    command.add_argument("--words", nargs="+", default=KEYWORDS)
    command.add_argument("--minutes", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.command == "words":
        write_words(arguments.out, arguments.words, arguments.voices, arguments.number)
    elif arguments.command == "background":
        write_background(arguments.out, arguments.words, arguments.voices, arguments.number)
    elif arguments.command == "unlabelled":
        write_unlabelled(arguments.out, arguments.number)
    else:
        write_recording(arguments.out, arguments.words, arguments.minutes)


if __name__ == "__main__":
    main()
