"""Does pretraining pay? A tiny SSAST with few labels, pretrained without labels against the same model from scratch.

    python -m tests.benchmarks.label_efficiency

For each kind of patch: pretrain once on unlabelled synthetic speech and other sounds; then, for each seed, fine-tune
on a few clips of each of ten words, and fine-tune the same model from a random start. Both get the same clips, steps
and choice of learning rates, each picks its own on validation voices, and the table holds the accuracy on test voices.
No voice is in two of the three.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
    set_seed,
)
from transformers.utils import logging

from hf_ast import HfASTFeatureExtractor, SSASTConfig, SSASTForAudioClassification, SSASTForPreTraining
from hf_ast.recipes.keywords.clips import KEYWORDS, speak, unknown_words
from hf_ast.recipes.keywords.speech import NOISE_KINDS, SAMPLING_RATE_HZ, make_noise, mix_at_snr, place, set_peak
from hf_ast.training.augmentation import spec_augment
from hf_ast.training.optimizers import MuonAdamW
from hf_ast.training.pretraining import MASK_RATIO
from hf_ast.training.pretraining_trainer import PretrainingTrainer

NUM_MEL_BINS, NUM_FRAMES = 64, 96
NUM_SAMPLES = 400 + 160 * (NUM_FRAMES - 1)
SIZE = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
PATCH_SIZES = {"patch": (32, 8), "frame": (NUM_MEL_BINS, 4)}  # 24 patches each
LEARNING_RATES = (1e-3, 3e-3)
NUM_VALIDATION, NUM_TEST = 20, 100  # clips per word
SHARE_OF_SOUNDS = 0.2  # of the unlabelled clips: noise, hum, clicks, babble without a word


class Clips(NamedTuple):
    """Spectrograms (B, T, M) and labels (B,)."""

    spectrograms: Tensor
    labels: Tensor


class Items(Dataset):
    """Clips for Trainer; in fine-tuning shifted in time and with a masked band and span, anew each time."""

    def __init__(self, clips: Clips, *, with_labels: bool):
        self.clips = clips
        self.with_labels = with_labels

    def __len__(self) -> int:
        return len(self.clips.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        spectrogram = self.clips.spectrograms[index]
        if not self.with_labels:
            return {"input_values": spectrogram}
        shifted = spectrogram.roll(int(torch.randint(-10, 11, ())), dims=0)
        augmented = spec_augment(shifted[None], max_mel_bins=12, max_frames=16, mask_value=0.0)[0]
        return {"input_values": augmented, "labels": self.clips.labels[index]}


def unlabelled_clips(num_clips: int, seed: int) -> Clips:
    """Words of all kinds by training voices, and other sounds."""
    rng = np.random.default_rng([seed, 0])
    num_sounds = round(SHARE_OF_SOUNDS * num_clips)
    words = [*KEYWORDS, *unknown_words("train")]
    rng.shuffle(words)
    with tqdm(total=num_clips - num_sounds, desc="Unlabelled speech", unit="clip") as progress:
        speech = speak(words, num_clips - num_sounds, "train", rng, progress)
    waveforms = [recorded(word, rng, speech) for word in speech]
    waveforms += [noise(rng, speech) for _ in range(num_sounds)]
    return Clips(log_mels(waveforms), torch.zeros(num_clips, dtype=torch.long))


def labelled_clips(split: str, num_per_word: int, seed: int) -> Clips:
    """The ten words, spoken by the voices of a split."""
    rng = np.random.default_rng([seed, *split.encode()])
    num_clips = num_per_word * len(KEYWORDS)
    with tqdm(total=num_clips, desc=f"Labelled speech ({split})", unit="clip") as progress:
        speech = speak(list(KEYWORDS), num_clips, split, rng, progress)
    labels = torch.arange(num_clips) % len(KEYWORDS)
    return Clips(log_mels([recorded(word, rng, speech) for word in speech]), labels)


def recorded(word: np.ndarray, rng: np.random.Generator, talkers: Sequence[np.ndarray]) -> np.ndarray:
    """A word somewhere in a clip, over noise at 5 to 30 dB, at a random level."""
    clip = place(word, NUM_SAMPLES, rng)
    return set_peak(mix_at_snr(clip, noise(rng, talkers), rng.uniform(5, 30)), rng.uniform(-20, 0))


def noise(rng: np.random.Generator, talkers: Sequence[np.ndarray]) -> np.ndarray:
    """A sound that is no word."""
    return set_peak(make_noise(str(rng.choice(NOISE_KINDS)), NUM_SAMPLES, rng, talkers), rng.uniform(-20, 0))


def log_mels(waveforms: Sequence[np.ndarray]) -> Tensor:
    """Spectrograms (B, T, M), normalised with the statistics of clips like these."""
    extractor = HfASTFeatureExtractor(num_mel_bins=NUM_MEL_BINS, max_length=NUM_FRAMES, mean=-8.0, std=5.0)
    return extractor(np.stack(waveforms), sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt")["input_values"]


def new_config(kind: str) -> SSASTConfig:
    """A model of 0.8 million parameters."""
    return SSASTConfig(
        **SIZE,
        patch_size=PATCH_SIZES[kind],
        num_mel_bins=NUM_MEL_BINS,
        max_length=NUM_FRAMES,
        mask_ratio=MASK_RATIO,
        initializer_range=0.06,  # as for the keyword recogniser: a narrow model learns faster from it
        num_labels=len(KEYWORDS),
        problem_type="single_label_classification",
    )


def run_trainer(
    trainer_class: type[Trainer],
    model: PreTrainedModel,
    data: Dataset,
    optimizer: torch.optim.Optimizer,
    num_steps: int,
    seed: int,
    **arguments: Any,
) -> None:
    """Train with 10 % warm-up and cosine decay."""
    schedule = get_cosine_schedule_with_warmup(optimizer, num_steps // 10, num_steps)
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(
            output_dir=scratch,
            max_steps=num_steps,
            per_device_train_batch_size=32,
            save_strategy="no",
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=seed,
            **arguments,
        )
        trainer = trainer_class(model, settings, train_dataset=data, optimizers=(optimizer, schedule))
        trainer.remove_callback(PrinterCallback)
        trainer.train()


@torch.inference_mode()
def accuracy(model: PreTrainedModel, clips: Clips) -> float:
    """Share of clips with the right label."""
    model.eval()
    predictions = [model(batch).logits.argmax(-1).cpu() for batch in clips.spectrograms.to(model.device).split(100)]
    return (torch.cat(predictions) == clips.labels).float().mean().item()


def fine_tuned_accuracy(
    start: PreTrainedModel, train: Clips, validation: Clips, test: Clips, num_steps: int, seed: int
) -> float:
    """Accuracy on the test clips, of the learning rate that is best on the validation clips."""
    results = []
    for learning_rate in LEARNING_RATES:
        set_seed(seed)
        model = SSASTForAudioClassification(start.config)
        model.backbone.load_state_dict(start.backbone.state_dict())
        optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.05)
        data = Items(train, with_labels=True)
        run_trainer(Trainer, model, data, optimizer, num_steps, seed, logging_strategy="no", disable_tqdm=True)
        results.append((accuracy(model, validation), learning_rate, accuracy(model, test)))
    best = max(results)
    print(f"  validation {best[0]:.3f} at learning rate {best[1]}, test {best[2]:.3f}", flush=True)
    return best[2]


def pretrained_model(kind: str, args: argparse.Namespace) -> SSASTForPreTraining:
    """A model trained on clips without labels."""
    data = Items(unlabelled_clips(args.unlabelled, seed=0), with_labels=False)
    set_seed(0)
    model = SSASTForPreTraining(new_config(kind))
    num_steps = args.pretraining_steps
    logging_steps = max(1, num_steps // 10)
    run_trainer(PretrainingTrainer, model, data, MuonAdamW(model), num_steps, seed=0, logging_steps=logging_steps)
    return model


def run_kind(kind: str, args: argparse.Namespace) -> list[dict[str, float]]:
    """Test accuracies of both starts, for each seed of the labelled clips, the new weights and the training."""
    pretrained = pretrained_model(kind, args)
    validation, test = labelled_clips("validation", NUM_VALIDATION, 0), labelled_clips("test", args.test, 0)
    results = []
    for seed in range(args.seeds):
        train = labelled_clips("train", args.labels, seed)
        set_seed(seed)
        starts = {"scratch": SSASTForPreTraining(new_config(kind)), "pretrained": pretrained}
        accuracies = {}
        for name, start in starts.items():
            accuracies[name] = fine_tuned_accuracy(start, train, validation, test, args.steps, seed)
        results.append(accuracies)
        print(table({kind: results}), flush=True)
    return results


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Accuracy in percent: a row for each kind and start, a column for each seed."""
    lines = []
    for kind, runs in results.items():
        for start in ("scratch", "pretrained"):
            values = [100 * run[start] for run in runs]
            columns = "".join(f"{value:8.1f}" for value in values)
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            lines.append(f"{kind:<8}{start:<12}{columns}   mean {statistics.mean(values):.1f}{spread}")
    return "\n".join(lines)


def main() -> None:
    """Run all kinds and seeds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=PATCH_SIZES, default=list(PATCH_SIZES))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--labels", type=int, default=10, help="labelled clips per word")
    parser.add_argument("--unlabelled", type=int, default=8000, help="unlabelled clips")
    parser.add_argument("--pretraining-steps", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=300, help="fine-tuning steps")
    parser.add_argument("--test", type=int, default=NUM_TEST, help="test clips per word")
    parser.add_argument("--json", metavar="FILE", help="write the accuracies there, too")
    args = parser.parse_args()
    logging.disable_progress_bar()
    results = {kind: run_kind(kind, args) for kind in args.kinds}
    print(table(results))
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"settings": vars(args), "accuracy": results}, file, indent=1)


if __name__ == "__main__":
    main()
