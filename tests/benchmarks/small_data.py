"""What helps with little data? Parts of a recipe, one at a time, with 10 and 40 clips of each of ten words.

    python -m tests.benchmarks.small_data

Recordings in folders are read, and models trained, by the parts of `hf_ast.training.finetune`, as users do it: a
fifth of the recordings is held out to choose the best state. There are three starts: the tiny SSAST of `keyword_task`
with random weights, the same pretrained without labels, and the embedded keyword model, which learns other words with
the preset small-data. Each variant changes one part of the plain recipe. Seeds choose the recordings, the random
weights and the training; a variant and the plain recipe share all of them, so that their differences are paired.
Accuracy is that on voices that no training heard. The learning rates were chosen on voices for validation, for the
plain recipe and for LoRA with 10 clips: `--split validation --seeds 1 --sizes 10 --learning-rate RATE`.

Every run is kept in the folder that is given as `--out`, and so is the pretrained model: a second call goes on.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, set_seed
from transformers.utils import logging

from hf_ast import SSASTForAudioClassification
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.data.labelled import LabelledData, read_data
from hf_ast.recipes.keywords.clips import KEYWORDS, unknown_words
from hf_ast.recipes.keywords.speech import SAMPLING_RATE_HZ
from hf_ast.training.evaluate import evaluate
from hf_ast.training.finetune import make_trainer, settle
from hf_ast.training.preparation import load_for_training
from hf_ast.training.presets import PRESETS, Preset
from hf_ast.training.recipe_trainer import training_arguments
from tests.benchmarks.keyword_task import (
    labelled_waveforms,
    new_config,
    new_extractor,
    pretrained_model,
    unlabelled_clips,
)

PLAIN = Preset(learning_rate=3e-3, num_epochs=20, batch_size=16, adam_beta1=0.9, weight_decay=0.01, max_grad_norm=1.0)
LORA_RATE = 1e-2
NUM_EPOCHS = {10: 20, 40: 10}  # for so many clips per word, of which four fifths are trained on: 100 and 200 steps
BASELINE, LORA = "plain", "LoRA"
FOUR = "masks, mixup, decay, mean"
MASKS = {"max_mel_mask": 24 / 128, "max_time_mask": 96 / 512}
MIXUP = {"mixup_probability": 0.5}
ROLL = {"max_noise": 0.1, "max_roll": 10}
LAYER_DECAY = {"layer_decay": 0.75}
HEAD = {"head_multiplier": 10.0}
MEAN = {"average_from": 0.5}
# What differs from the plain recipe; averages begin after this share of the epochs
VARIANTS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "SpecAugment": MASKS,
    "mixup": MIXUP,
    "noise and roll": ROLL,
    "layer decay 0.75": LAYER_DECAY,
    "head 10 times": HEAD,
    "mean of weights": MEAN,
    LORA: {"learning_rate": LORA_RATE},
    FOUR: MASKS | MIXUP | LAYER_DECAY | MEAN,
}
# With the embedded model, which learns ten words that it does not know: what differs from the preset small-data
PRESET_VARIANTS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    # Of version 0.2: 1e-4 for models of every width, and 20 epochs, however few steps they are
    "former preset": LAYER_DECAY | {"learning_rate": 1e-4, "width": None, "min_steps": 0, "patience": None},
    "SpecAugment": MASKS,
    "head as the rest": {"head_multiplier": 1.0},
}
SCRATCH_VARIANTS = [name for name in VARIANTS if name not in (LORA, "head 10 times", "noise and roll")]
STARTS = {"scratch": SCRATCH_VARIANTS, "pretrained": list(VARIANTS), "keywords": list(PRESET_VARIANTS)}
LORA_CONFIG = LoraConfig(r=8, target_modules=["qkv", "proj", "fc1", "fc2"], modules_to_save=["classifier"])
OTHER_WORDS = unknown_words("test")[:10]  # which the embedded model never heard
NUM_EVALUATIONS = 5  # on the recordings held out, to choose the best state
NUM_TEST = 100  # clips per word


class Run(NamedTuple):
    """A training and its result."""

    split: str
    start: str
    variant: str
    num_per_word: int
    seed: int
    settings: str
    accuracy: float
    processor_s: float


def preset_of(start: str, variant: str, num_per_word: int, changes: dict[str, Any]) -> Preset:
    """The recipe of a variant, with other changes that are to be made in all variants."""
    if start == "keywords":
        return replace(PRESETS["small-data"], **PRESET_VARIANTS[variant] | changes)
    settings = {"num_epochs": NUM_EPOCHS[num_per_word]} | VARIANTS[variant] | changes
    average_from = settings.pop("average_from", None)
    preset = replace(PLAIN, **settings)
    return replace(preset, average_from_epoch=average_from and round(average_from * preset.num_epochs))


def write_recordings(folder: Path, words: Sequence[str], split: str, waveforms: Sequence[np.ndarray]) -> None:
    """Write waveforms of words in turn as WAV files, in a folder for each word."""
    for index, waveform in enumerate(waveforms):
        file = folder / split / words[index % len(words)] / f"{index:04d}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, waveform, SAMPLING_RATE_HZ)


def recordings(start: str, split: str, num_per_word: int, seed: int, folder: Path) -> LabelledData:
    """Labelled recordings for a training, and others, by the voices of a split, as its split "test"."""
    words = OTHER_WORDS if start == "keywords" else KEYWORDS
    write_recordings(folder, words, "train", labelled_waveforms("train", num_per_word, seed, words))
    write_recordings(folder, words, "test", labelled_waveforms(split, NUM_TEST, 0, words))
    return read_data(folder, seed=seed)


def start_folder(start: str, seed: int, out: Path, scratch: Path) -> Path:
    """Where the weights are that a training starts from."""
    if start == "keywords":
        return EMBEDDED_MODEL
    folder = out / "ssast-frame" if start == "pretrained" else scratch / f"scratch-{seed}"
    if not folder.exists():
        if start == "pretrained":
            model = pretrained_model(new_config("frame"), unlabelled_clips(8000, seed=0), num_steps=5000, seed=0)
        else:
            set_seed(seed)
            model = SSASTForAudioClassification(new_config("frame"))
        model.save_pretrained(folder)
        new_extractor().save_pretrained(folder)
    return folder


def trained_accuracy(data: LabelledData, output: Path, model: Path, variant: str, preset: Preset, seed: int) -> float:
    """Train as `finetune` does, by the same parts, and return the accuracy on the recordings of the split "test"."""
    set_seed(seed)
    network, extractor, data = load_for_training(model, data, preset)
    preset, per_epoch = settle(preset, network, extractor, data, preset.batch_size)
    eval_every = math.ceil(preset.num_epochs * per_epoch / NUM_EVALUATIONS)
    arguments = training_arguments(
        output,
        preset,
        eval_every=eval_every,
        has_validation=True,
        seed=seed,
        disable_tqdm=True,
        save_only_model=True,
    )
    if variant == LORA:
        network = get_peft_model(network, LORA_CONFIG)
    trainer = make_trainer(network, extractor, data, preset, arguments)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    if variant == LORA:
        network = network.merge_and_unload()
    return evaluate(network, extractor, data, split="test", batch_size=100).metrics.values["accuracy"]


def run_all(presets: dict[str, Preset], start: str, num_per_word: int, seed: int, split: str, out: Path) -> list[Run]:
    """Run the variants on the same recordings, unless the folder holds their results already."""
    file = out / "runs.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    known = {run[:-2]: run for run in (Run(**json.loads(line)) for line in lines)}
    runs: list[Run] = []
    data = None
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for variant, preset in presets.items():
            key = (split, start, variant, num_per_word, seed, json.dumps(asdict(preset)))
            if key not in known:
                data = data or recordings(start, split, num_per_word, seed, scratch / "recordings")
                model = start_folder(start, seed, out, scratch)
                begin = time.process_time()
                accuracy = trained_accuracy(data, scratch / variant, model, variant, preset, seed)
                known[key] = Run(*key, accuracy, time.process_time() - begin)
                with file.open("a", encoding="utf-8") as opened:
                    opened.write(json.dumps(known[key]._asdict()) + "\n")
                print(
                    f"{start} {num_per_word} {variant}, seed {seed}: {accuracy:.3f}, {known[key].processor_s:.0f} s",
                    flush=True,
                )
            runs.append(known[key])
    return runs


def table(runs: Sequence[Run]) -> str:
    """Mean accuracies, and means and standard errors of the paired differences to the plain recipe, in percent."""
    found = {(run.start, run.num_per_word, run.variant, run.seed): run.accuracy for run in runs}
    lines = ["start       clips  recipe                    accuracy  difference, by seed"]
    for start, num_per_word, variant in dict.fromkeys(key[:3] for key in found):
        seeds = [key[3] for key in found if key[:3] == (start, num_per_word, variant)]
        mean = statistics.mean(100 * found[start, num_per_word, variant, seed] for seed in seeds)
        line = f"{start:<12}{num_per_word:>5}  {variant:<26}{mean:8.1f}"
        pairs = [
            100 * (found[start, num_per_word, variant, seed] - found[start, num_per_word, BASELINE, seed])
            for seed in seeds
            if (start, num_per_word, BASELINE, seed) in found
        ]
        if variant != BASELINE and pairs:
            error = statistics.stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 1 else float("nan")
            line += f"{statistics.mean(pairs):+8.1f} ± {error:.1f}  " + "".join(f"{pair:+7.1f}" for pair in pairs)
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Run what is not in the folder yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument(
        "--sizes", nargs="+", type=int, choices=NUM_EPOCHS, default=list(NUM_EPOCHS), help="labelled clips per word"
    )
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, *PRESET_VARIANTS])
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="voices that are tested")
    parser.add_argument("--learning-rate", type=float, help="instead of the one of the recipe")
    parser.add_argument("--epochs", type=int, help="instead of those of the recipe")
    parser.add_argument("--out", type=Path, default=Path("build/small-data"), help="for the results and the model")
    args = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    changes: dict[str, Any] = {"learning_rate": args.learning_rate, "num_epochs": args.epochs}
    changes = {name: value for name, value in changes.items() if value is not None}
    args.out.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(args.seeds):
        for start in args.starts:
            for num_per_word in args.sizes:
                variants = [name for name in STARTS[start] if name in (args.variants or STARTS[start])]
                presets = {variant: preset_of(start, variant, num_per_word, changes) for variant in variants}
                runs += run_all(presets, start, num_per_word, seed, args.split, args.out)
    print(table(runs))
    print(f"{sum(run.processor_s for run in runs):.0f} s of the processor for {len(runs)} trainings")


if __name__ == "__main__":
    main()
