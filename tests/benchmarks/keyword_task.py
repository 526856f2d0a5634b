"""Ten words of synthetic speech, a tiny SSAST for them, and its pretraining on sounds without labels.

What several benchmarks share. No voice is in two of the splits "train", "validation" and "test".
"""

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

from hf_ast import HfASTFeatureExtractor, SSASTConfig, SSASTForPreTraining
from hf_ast.recipes.keywords.clips import KEYWORDS, speak, unknown_words
from hf_ast.recipes.keywords.speech import NOISE_KINDS, SAMPLING_RATE_HZ, make_noise, mix_at_snr, place, set_peak
from hf_ast.training.augmentation import spec_augment
from hf_ast.training.optimizers import MuonAdamW
from hf_ast.training.pretraining import mask_settings
from hf_ast.training.pretraining_trainer import PretrainingTrainer

NUM_MEL_BINS, NUM_FRAMES = 64, 96
NUM_SAMPLES = 400 + 160 * (NUM_FRAMES - 1)
SIZE = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
PATCH_SIZES = {"patch": (32, 8), "frame": (NUM_MEL_BINS, 4)}  # 24 patches each
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
    waveforms = labelled_waveforms(split, num_per_word, seed)
    return Clips(log_mels(waveforms), torch.arange(len(waveforms)) % len(KEYWORDS))


def labelled_waveforms(split: str, num_per_word: int, seed: int, words: Sequence[str] = KEYWORDS) -> list[np.ndarray]:
    """The words in turn, spoken by the voices of a split."""
    rng = np.random.default_rng([seed, *split.encode()])
    num_clips = num_per_word * len(words)
    with tqdm(total=num_clips, desc=f"Labelled speech ({split})", unit="clip") as progress:
        speech = speak(list(words), num_clips, split, rng, progress)
    return [recorded(word, rng, speech) for word in speech]


def recorded(word: np.ndarray, rng: np.random.Generator, talkers: Sequence[np.ndarray]) -> np.ndarray:
    """A word somewhere in a clip, over noise at 5 to 30 dB, at a random level."""
    clip = place(word, NUM_SAMPLES, rng)
    return set_peak(mix_at_snr(clip, noise(rng, talkers), rng.uniform(5, 30)), rng.uniform(-20, 0))


def noise(rng: np.random.Generator, talkers: Sequence[np.ndarray]) -> np.ndarray:
    """A sound that is no word."""
    return set_peak(make_noise(str(rng.choice(NOISE_KINDS)), NUM_SAMPLES, rng, talkers), rng.uniform(-20, 0))


def log_mels(waveforms: Sequence[np.ndarray]) -> Tensor:
    """Spectrograms (B, T, M) of clips."""
    inputs = new_extractor()(np.stack(waveforms), sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt")
    return inputs["input_values"]


def new_extractor() -> HfASTFeatureExtractor:
    """A feature extractor with the statistics of clips like these."""
    return HfASTFeatureExtractor(num_mel_bins=NUM_MEL_BINS, max_length=NUM_FRAMES, mean=-8.0, std=5.0)


def new_config(kind: str, **changes: Any) -> SSASTConfig:
    """A model of 0.8 million parameters; `changes` are other fields of the config."""
    height, width = PATCH_SIZES[kind]
    values: dict[str, Any] = {
        "patch_size": (height, width),
        "num_mel_bins": NUM_MEL_BINS,
        "max_length": NUM_FRAMES,
        "initializer_range": 0.06,  # as for the keyword recogniser: a narrow model learns faster from it
        "num_labels": len(KEYWORDS),
        "problem_type": "single_label_classification",
    }
    masks = mask_settings(NUM_MEL_BINS // height, NUM_FRAMES // width)
    return SSASTConfig(**SIZE | values | masks | changes)


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


def pretrained_model(config: SSASTConfig, clips: Clips, num_steps: int, seed: int) -> SSASTForPreTraining:
    """A model trained on clips without labels; the seed is that of its weights, its masks and the order of clips."""
    set_seed(seed)
    model = SSASTForPreTraining(config)
    data, logging_steps = Items(clips, with_labels=False), max(1, num_steps // 10)
    run_trainer(PretrainingTrainer, model, data, MuonAdamW(model), num_steps, seed, logging_steps=logging_steps)
    return model
