"""A model that says when each word is heard, trained on sequences of words from the embedded model on.

    python -m hf_ast.recipes.keywords frames --out DIR [--seed S]

A few minutes on one core. The voices, words and noises are those of the embedded model.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, get_cosine_schedule_with_warmup, set_seed

from hf_ast import HfASTFeatureExtractor, HfASTForAudioFrameClassification
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.data.strong_labels import MarkedEvent
from hf_ast.recipes.keywords.clips import (
    HOP,
    KEYWORDS,
    LABELS,
    SILENCE,
    SNR_TRAIN_DB,
    UNKNOWN,
    Pool,
    RandomClips,
    speech_pool,
)
from hf_ast.training.frames import cell_labels, clip_edges_s
from hf_ast.training.optimizers import MuonAdamW

# Pauses between words in seconds, and the share of words that are no keywords
PAUSE_S = (0.1, 1.0)
SHARE_OF_OTHER_WORDS = 0.3
# A word of which less than this share is in the clip is not known to be one or another
LEAST_SHARE = 0.7
EDGE_FRAMES = 2  # silence around each word, as `RandomClips` makes it
BATCH_SIZE = 64
# Logit of a class in a cell before training: most cells hold none
FIRST_LOGIT = -4.0


class RandomSequences(RandomClips):
    """Clips of full length from the midst of speech, each with the labels of its cells.

    Args:
        pool, feature_extractor, num_clips, seed: See `RandomClips`.
        model: Tells the cells.
    """

    def __init__(
        self,
        pool: Pool,
        feature_extractor: HfASTFeatureExtractor,
        model: HfASTForAudioFrameClassification,
        num_clips: int,
        seed: int,
    ):
        super().__init__(pool, feature_extractor, num_clips, seed)
        self.edges_s = clip_edges_s(model.config, feature_extractor, feature_extractor.max_samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:  # type: ignore[override]
        rng = np.random.default_rng([self.seed, 3, index])
        num_frames = self.feature_extractor.max_length
        clip = np.zeros((num_frames, self.feature_extractor.num_mel_bins), np.float32)
        labels = np.zeros((len(self.edges_s) - 1, len(LABELS)), np.float32)
        shift, tilt = int(rng.integers(-4, 5)), rng.uniform(-0.6, 0.6, 6)
        power, position = [], int(rng.integers(-80, num_frames))
        while position < num_frames:
            label = UNKNOWN if rng.random() < SHARE_OF_OTHER_WORDS else str(rng.choice(KEYWORDS))
            word, energy = self.speech[label][rng.integers(len(self.speech[label]))]
            first, end = max(position, 0), min(position + len(word), num_frames)
            if first < end:
                clip[first:end] += word[first - position : end - position]
                spoken_s = np.array([position + EDGE_FRAMES, position + len(word) - EDGE_FRAMES]) / 100
                event = MarkedEvent(LABELS.index(label), *spoken_s)
                cells = cell_labels([event], self.edges_s, len(LABELS))
                is_cut = (end - first) < LEAST_SHARE * len(word)
                labels[cells.any(axis=1)] = np.nan if is_cut else 0.0
                labels += cells * (0.0 if is_cut else 1.0)
                power.append(energy / (len(word) * HOP))
            position += len(word) + int(100 * rng.uniform(*PAUSE_S))
        labels[:, LABELS.index(SILENCE)] = ~labels.any(axis=1)  # NaN is true
        clip = np.roll(clip, shift, axis=1)
        clip[:, : max(shift, 0)] = 0.0
        clip[:, len(clip[0]) + min(shift, 0) :] = 0.0
        clip *= 10 ** np.interp(np.arange(clip.shape[1]), np.linspace(0, clip.shape[1] - 1, 6), tilt).astype(
            np.float32
        )
        noise = self.noise[rng.integers(len(self.noise))]
        noise = noise[rng.integers(len(noise) - num_frames + 1) :][:num_frames]
        if rng.random() < 0.85:
            level = float(np.mean(power)) if power else 10 ** rng.uniform(-5, -1)
            clip += noise * np.float32(level / 10 ** (rng.uniform(*SNR_TRAIN_DB) / 10))
        clip *= np.float32(10 ** rng.uniform(-3, 0))
        known = torch.from_numpy(labels).nan_to_num(-100.0)
        known[torch.from_numpy(np.isnan(labels).any(axis=1))] = -100.0
        return {"input_values": self._normalized(clip), "labels": known}


def train_frames(
    out: Path, seed: int = 0, num_clips: int = 64_000, model_path: str | Path = EMBEDDED_MODEL, num_words: int = 200
) -> None:
    """Train a model of frames from the embedded model on, and save it with its feature extractor in `out`.

    Args:
        out: Folder to write.
        seed: Seed of everything random.
        num_clips: Clips of 1.6 s, each another one.
        model_path: The model to begin with.
        num_words: Utterances of each keyword; eight times as many of other words.
    """
    set_seed(seed)
    feature_extractor = HfASTFeatureExtractor.from_pretrained(model_path)
    model = HfASTForAudioFrameClassification.from_pretrained(model_path)
    with torch.no_grad():
        model.frame_classifier.linear.bias.fill_(FIRST_LOGIT)
    pool = speech_pool("train", num_words, 8 * num_words, seed)
    dataset = RandomSequences(pool, feature_extractor, model, num_clips, seed)
    optimizer = MuonAdamW(model)
    num_steps = num_clips // BATCH_SIZE
    schedule = get_cosine_schedule_with_warmup(optimizer, num_steps // 20, num_steps)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=num_steps,
            per_device_train_batch_size=BATCH_SIZE,
            logging_steps=100,
            save_strategy="no",
            report_to="none",
            seed=seed,
        )
        Trainer(model, arguments, train_dataset=dataset, optimizers=(optimizer, schedule)).train()
    model.save_pretrained(out)
    feature_extractor.save_pretrained(out)
