"""Event F1 by the labels that a model learns from: weak only, strong only, both; synthetic recordings as of DESED.

    python -m tests.benchmarks.weak_and_strong [--seconds 2000] [--seeds 3] [--epochs 10] [--json FILE]

Recordings of 10 s hold calls (`docs.guides.calls`) and spoken words, in noise; a quarter holds none. A fifth of all is
for the test, a tenth for validation, both with strong labels. Of those for training, a quarter has strong labels, the
others have weak ones. Each training begins with the embedded model, whose words are others.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from docs.guides.calls import RATE, Mark, soundscape
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.data.strong_labels import read_events
from hf_ast.recipes.keywords.speech import random_voice, synthesize
from hf_ast.training.finetune import finetune
from hf_ast.training.presets import PRESETS

LENGTH_S = 10.0
WORDS = ("water", "seven")
STRONG_SHARE = 0.25
MODES = ("weak", "strong", "both")


def recording(rng: np.random.Generator, split: str) -> tuple[np.ndarray, list[Mark]]:
    """Make calls with words among them (S,), and when they are heard."""
    sound, marks = soundscape(LENGTH_S, rng, is_empty=rng.random() < 0.25)
    for _ in range(rng.integers(0, 3) if marks else 0):
        word = str(rng.choice(WORDS))
        spoken = synthesize(word, random_voice(split, rng), int(rng.integers(120, 250)), int(rng.integers(20, 80)))
        first = int(rng.integers(0, len(sound) - len(spoken)))
        sound[first : first + len(spoken)] += rng.uniform(0.3, 1.0) * spoken
        marks.append((word, first / RATE, (first + len(spoken)) / RATE))
    return sound / max(1.0, np.abs(sound).max()), marks


def write_data(folder: Path, num_recordings: int, seed: int, mode: str) -> Path:
    """Write the recordings once, and a table with the labels that are known in a mode."""
    rng = np.random.default_rng(seed)
    rows = ["filename\tonset\toffset\tevent_label\tsplit"]
    for number in range(num_recordings):
        split = ("test", "test", "validation", *("train",) * 7)[number % 10]
        sound, marks = recording(rng, "test" if split == "test" else "train")
        name = f"{number:04d}.wav"
        if not (folder / name).exists():
            soundfile.write(folder / name, sound, RATE)
        is_strong = split != "train" or rng.random() < STRONG_SHARE
        if mode == ("weak" if is_strong else "strong") and split == "train":
            continue
        if is_strong and marks:
            rows += [f"{name}\t{start:.6f}\t{end:.6f}\t{label}\t{split}" for label, start, end in marks]
        else:
            rows += [f"{name}\t\t\t{label}\t{split}" for label in sorted({mark[0] for mark in marks}) or [""]]
    table = folder / f"{mode}.tsv"
    table.write_text("\n".join(rows) + "\n")
    return table


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    preset = replace(PRESETS["small-data"], num_epochs=arguments.epochs, min_steps=0)
    results: list[dict[str, object]] = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            for mode in MODES:
                table = write_data(Path(scratch), round(arguments.seconds / LENGTH_S), seed, mode)
                data = read_events(table, decode=False)
                done = finetune(
                    data, Path(scratch, mode), model=EMBEDDED_MODEL, preset=preset, num_workers=0, seed=seed
                )
                assert done.evaluation is not None
                results.append({"mode": mode, "seed": seed} | done.evaluation.metrics.values)
                print(json.dumps(results[-1]), flush=True)
    for mode in MODES:
        rows = [result for result in results if result["mode"] == mode]
        names = [name for name in rows[0] if name not in ("mode", "seed")]
        means = {name: np.mean([float(str(row[name])) for row in rows]) for name in names}
        print(f"{mode:<7}", "  ".join(f"{name} {value:.3f}" for name, value in means.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
