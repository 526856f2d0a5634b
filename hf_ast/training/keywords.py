"""A keyword recogniser trained on synthetic speech: the recipe behind the model that comes with the package.

    python -m hf_ast.training.keywords train --out DIR [--seed S]
    python -m hf_ast.training.keywords evaluate [--model DIR] [--json]

Ten Speech Commands words, any other word ("_unknown_") and no speech ("_silence_"), spoken by espeak-ng in a
clip of 0.5 to 1.6 s, anywhere in it. Training, validation and test use different voices, and different words
for "_unknown_". Everything follows from the seed; training takes about 10 minutes on two CPU cores.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import Trainer, TrainingArguments, set_seed

from hf_ast import HfASTConfig, HfASTFeatureExtractor, HfASTForAudioClassification
from hf_ast.training.synthetic_speech import (
    NOISE_KINDS,
    SAMPLING_RATE_HZ,
    make_noise,
    mix_at_snr,
    place,
    random_voice,
    set_peak,
    synthesize,
)

EMBEDDED_MODEL = Path(__file__).parents[1] / "assets" / "ast-keywords"
UNKNOWN, SILENCE = "_unknown_", "_silence_"
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
LABELS = (*KEYWORDS, UNKNOWN, SILENCE)

# Everyday words, and words close to a keyword (but none that sounds the same in any of the accents)
OTHER_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand million
    bed bird cat dog happy house marvin sheila tree wow backward forward follow learn visual
    red green blue yellow black white orange purple brown grey
    water fire earth air wind rain snow sun moon star cloud river mountain island ocean forest garden flower
    mother father sister brother daughter uncle child woman man people doctor teacher student worker king queen
    hand foot head eye ear nose mouth finger shoulder knee heart blood bone
    apple banana bread butter cheese coffee dinner lemon milk orange potato sugar salt tea tomato chicken egg
    table chair window door kitchen bathroom ceiling carpet pillow blanket mirror candle lamp bottle spoon knife
    car train bicycle airplane ship bridge road street corner station ticket engine wheel
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday January April August October winter summer autumn
    open close turn start begin finish play pause move push pull lift throw catch jump walk run sit stand sleep
    speak listen hear read remember forget think understand believe hope love laugh cry sing dance
    big small long short high low fast slow hot cold new old young good bad easy hard heavy light soft loud
    quiet early late near far rich poor clean dirty empty full strong weak
    maybe please thanks sorry hello goodbye welcome always never often sometimes again also because before after
    above below under over between behind inside outside around through without together
    music radio picture movie story letter number question answer problem reason minute morning evening
    computer keyboard telephone camera television internet message password volume
    question language culture science history village country city market office hospital library museum
    guess chess less dress mess best guest yell yet yesterday west
    note nose known snow slow show toe though bone nor now
    cup us ugly other upper puppy bump cap cop
    town dawn crown brown found done gown dull doubt
    lift laughed theft lend let leg less loft length
    ride rice bright rate rhyme wide night wrist ripe
    an in own odd ox honest arm gone onto
    of cough oft offer awful often soft laugh ought
    step top shop stock stuff staff spot stamp stone
    goat gold ghost goose gap got gay guy grow
""".split()

MAX_DURATION_S = 1.6
# Of the log-mel values of training clips
MEAN, STD = -8.0, 5.0
SNR_TRAIN_DB = (0.0, 40.0)
SNR_TEST_DB = (5.0, 20.0)


def unknown_words(split: str) -> list[str]:
    """The words of `_unknown_` in a split: of every ten, seven for training, one for validation, two for test."""
    words = sorted(set(OTHER_WORDS))
    remainders = {"train": (0, 1, 2, 4, 5, 6, 8), "validation": (9,), "test": (3, 7)}[split]
    return [word for index, word in enumerate(words) if index % 10 in remainders]


def speak(words: list[str], num_clips: int, split: str, rng: np.random.Generator, progress: tqdm) -> list[np.ndarray]:
    """Say words in turn, each time with another voice, rate, pitch and intonation.

    Args:
        words: What to say.
        num_clips: Number of utterances; the words are repeated as often as needed.
        split: Whose voices.
        rng: Source of randomness.
        progress: Advanced by one per utterance.

    Returns:
        Waveforms, each of shape (S,).
    """
    waveforms = []
    for index in range(num_clips):
        text = words[index % len(words)] + str(rng.choice(["", "", "!", "?"]))
        rate, pitch = int(rng.integers(80, 320)), int(rng.integers(10, 90))
        waveforms.append(synthesize(text, random_voice(split, rng), rate, pitch))
        progress.update()
    return waveforms


def speech_pool(split: str, num_per_keyword: int, num_unknown: int, seed: int) -> dict[str, list[np.ndarray]]:
    """Clean speech of one split, in memory: label -> waveforms."""
    rng = np.random.default_rng([seed, *split.encode()])
    num_clips = num_per_keyword * len(KEYWORDS) + num_unknown
    with tqdm(total=num_clips, desc=f"Synthesising ({split})", unit="clip") as progress:
        pool = {keyword: speak([keyword], num_per_keyword, split, rng, progress) for keyword in KEYWORDS}
        pool[UNKNOWN] = speak(unknown_words(split), num_unknown, split, rng, progress)
    return pool


def random_clip(
    pool: dict[str, list[np.ndarray]], label: str, snr_db: float | None, rng: np.random.Generator
) -> np.ndarray:
    """A clip of a class: a word anywhere in 0.5 to 1.6 s, or nothing; noise; a random level.

    Args:
        pool: Clean speech by label.
        label: One of `LABELS`.
        snr_db: Signal-to-noise ratio over the whole clip; None for a clip without noise.
        rng: Source of randomness.

    Returns:
        Waveform in [-1, 1], shape (S,).
    """
    num_samples = int(rng.uniform(0.5, MAX_DURATION_S) * SAMPLING_RATE_HZ)
    talkers = pool[UNKNOWN]
    if label == SILENCE:
        # Without noise, what an idle converter gives: zeros, or a trace of hiss
        if snr_db is None:
            return set_peak(make_noise("white", num_samples, rng), rng.uniform(-90, -60)) * (rng.random() < 0.7)
        noise = make_noise(str(rng.choice(NOISE_KINDS)), num_samples, rng, talkers)
        return set_peak(noise, rng.uniform(-50, 0))
    word = pool[label][rng.integers(len(pool[label]))]
    num_samples = min(max(num_samples, len(word)), int(MAX_DURATION_S * SAMPLING_RATE_HZ))
    clip = place(word, num_samples, rng)
    if snr_db is not None:
        clip = mix_at_snr(clip, make_noise(str(rng.choice(NOISE_KINDS)), num_samples, rng, talkers), snr_db)
    return set_peak(clip, rng.uniform(-30, 0))


class RandomClips(Dataset):
    """`num_clips` different random clips: number i depends on the seed and i only, whoever computes it."""

    def __init__(
        self,
        pool: dict[str, list[np.ndarray]],
        feature_extractor: HfASTFeatureExtractor,
        num_clips: int,
        seed: int,
    ):
        self.pool = pool
        self.feature_extractor = feature_extractor
        self.num_clips = num_clips
        self.seed = seed
        weight = np.array([3.0 if label == UNKNOWN else 1.0 for label in LABELS])
        self.probability = weight / weight.sum()

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | int]:
        rng = np.random.default_rng([self.seed, index])
        label = int(rng.choice(len(LABELS), p=self.probability))
        snr_db = None if rng.random() < 0.25 else rng.uniform(*SNR_TRAIN_DB)
        waveform = random_clip(self.pool, LABELS[label], snr_db, rng)
        features = self.feature_extractor(waveform, sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt")
        return {"input_values": mask_spectrogram(features["input_values"][0], rng), "labels": label}


def mask_spectrogram(
    spectrogram: torch.Tensor, rng: np.random.Generator, max_frames: int = 12, max_bins: int = 8
) -> torch.Tensor:
    """SpecAugment: blank one time span and one frequency band, of random place and width. Shape (T, M)."""
    spectrogram = spectrogram.clone()
    for axis, max_width in enumerate((max_frames, max_bins)):
        width = int(rng.integers(max_width + 1))
        start = int(rng.integers(spectrogram.shape[axis] - width + 1))
        spectrogram.narrow(axis, start, width).fill_(spectrogram.mean())
    return spectrogram


class TestClip(NamedTuple):
    """A clip of the test set."""

    waveform: np.ndarray
    label: str
    noisy: bool


def held_out_clips(num_per_class: int = 200, split: str = "test", seed: int = 0) -> list[TestClip]:
    """Clips of voices, and for `_unknown_` of words, that training never hears.

    Args:
        num_per_class: Clips of each class without noise, and as many again with noise at 5 to 20 dB.
        split: "test" or "validation".
        seed: Another seed gives other clips.

    Returns:
        2 * 12 * num_per_class clips.
    """
    pool = speech_pool(split, num_per_class, num_per_class, seed)
    rng = np.random.default_rng([seed, 1])
    return [
        TestClip(random_clip(pool, label, rng.uniform(*SNR_TEST_DB) if noisy else None, rng), label, noisy)
        for noisy in (False, True)
        for label in LABELS
        for _ in range(num_per_class)
    ]


def new_model() -> HfASTForAudioClassification:
    """An untrained AST of 0.7 million parameters for clips of up to 1.6 s."""
    config = HfASTConfig(
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        patch_size=(16, 16),
        frequency_stride=10,
        time_stride=10,
        num_mel_bins=64,
        max_length=160,
        pooling="mean",
        use_distillation_token=False,
        problem_type="single_label_classification",
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    return HfASTForAudioClassification(config)


def train(out: Path, seed: int = 0, num_clips: int = 100_000) -> None:
    """Train the model from nothing and save it, with its feature extractor, in `out`."""
    set_seed(seed)
    pool = speech_pool("train", num_per_keyword=800, num_unknown=4000, seed=seed)
    feature_extractor = HfASTFeatureExtractor(num_mel_bins=64, max_length=160, mean=MEAN, std=STD)
    model = new_model()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=64,
            learning_rate=1e-3,
            weight_decay=0.05,
            warmup_steps=0.05,
            lr_scheduler_type="cosine",
            label_smoothing_factor=0.05,
            dataloader_num_workers=1,
            logging_steps=100,
            save_strategy="no",
            report_to="none",
            seed=seed,
        )
        Trainer(model, arguments, train_dataset=RandomClips(pool, feature_extractor, num_clips, seed)).train()
    model.save_pretrained(out)
    feature_extractor.save_pretrained(out)
