"""A keyword recogniser trained on synthetic speech: the recipe behind the model that comes with the package.

    python -m hf_ast.recipes.keywords train --out DIR [--seed S]
    python -m hf_ast.recipes.keywords evaluate [--model DIR] [--json]

It tells apart ten words of Speech Commands, any other word ("_unknown_") and no speech ("_silence_"). espeak-ng speaks
the words, at a random place in clips of 0.5 to 1.6 s. Training, validation and test use different voices. The seed
determines everything.
"""

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, get_cosine_schedule_with_warmup, set_seed

from hf_ast import HfASTConfig, HfASTFeatureExtractor, HfASTForAudioClassification
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.recipes.keywords.clips import (
    LABELS,
    MEAN,
    SILENCE,
    STD,
    UNKNOWN,
    RandomClips,
    held_out_clips,
    random_clip,
    speech_pool,
)
from hf_ast.recipes.keywords.speech import SAMPLING_RATE_HZ, make_noise, mix_at_snr, place, set_peak
from hf_ast.training.optimizers import MuonAdamW

MAX_FRAMES = 160
NUM_MEL_BINS = 64
PATCH_FRAMES = 8
BATCH_SIZE = 64


def new_model() -> HfASTForAudioClassification:
    """Make an untrained AST of 0.6 million parameters for clips of up to 1.6 s."""
    config = HfASTConfig(
        hidden_size=96,
        num_hidden_layers=5,
        num_attention_heads=4,
        intermediate_size=384,
        # The default, 0.02, suits wide models; with it, this one would hardly learn in so few steps
        initializer_range=0.06,
        # Each token is the whole spectrum of 80 ms; the model learns much faster than with square patches
        patch_size=(NUM_MEL_BINS, PATCH_FRAMES),
        time_stride=4,
        num_mel_bins=NUM_MEL_BINS,
        max_length=MAX_FRAMES,
        pooling="cls",
        use_distillation_token=False,
        problem_type="single_label_classification",
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    return HfASTForAudioClassification(config)


def new_feature_extractor() -> HfASTFeatureExtractor:
    """Make the feature extractor of `new_model`."""
    return HfASTFeatureExtractor(
        num_mel_bins=NUM_MEL_BINS, max_length=MAX_FRAMES, mean=MEAN, std=STD, min_length=PATCH_FRAMES
    )


def train(out: Path, seed: int = 0, num_clips: int = 300_000) -> None:
    """Train the model from random weights, and save it with its feature extractor in `out`."""
    set_seed(seed)
    pool = speech_pool("train", num_per_keyword=800, num_unknown=8000, seed=seed)
    model, feature_extractor = new_model(), new_feature_extractor()
    dataset = RandomClips(pool, feature_extractor, num_clips, seed)
    optimizer = MuonAdamW(model)
    num_steps = num_clips // BATCH_SIZE
    schedule = get_cosine_schedule_with_warmup(optimizer, num_steps // 20, num_steps)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=num_steps,
            per_device_train_batch_size=BATCH_SIZE,
            logging_steps=250,
            save_strategy="no",
            report_to="none",
            seed=seed,
        )
        Trainer(model, arguments, train_dataset=dataset, optimizers=(optimizer, schedule)).train()
    expect_equal_classes(model, dataset.shares)
    model.save_pretrained(out)
    feature_extractor.save_pretrained(out)


@torch.no_grad()
def expect_equal_classes(model: HfASTForAudioClassification, shares: np.ndarray) -> None:
    """Correct the logits, by Bayes' rule, for the fractions (C,) of the classes in training.

    Training has more clips of other words than of each keyword; without the correction, the model would expect the
    same in use.
    """
    prior = torch.as_tensor(shares * len(shares), dtype=torch.float32)
    model.classifier.linear.bias.sub_(prior.log().to(model.device))


def save_recordings(folder: Path, seed: int = 0) -> None:
    """Write one recording of held-out voices per class, `<label>.flac`: one second, with pink noise at 25 dB."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 2])
    pool = speech_pool("test", num_per_keyword=1, num_unknown=1, seed=seed + 1)
    for label in LABELS:
        noise = make_noise("pink", SAMPLING_RATE_HZ, rng)
        clip = noise if label == SILENCE else mix_at_snr(place(pool[label][0], SAMPLING_RATE_HZ, rng), noise, 25.0)
        soundfile.write(folder / f"{label}.flac", set_peak(clip, -3.0), SAMPLING_RATE_HZ)


def embed(folder: Path) -> None:
    """Copy a trained model and its recordings into the package, without the model code, which the package has."""
    for name in ("config.json", "preprocessor_config.json"):
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        values.pop("auto_map", None)
        (EMBEDDED_MODEL / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copy(folder / "model.safetensors", EMBEDDED_MODEL)
    shutil.copytree(folder / "recordings", EMBEDDED_MODEL / "recordings", dirs_exist_ok=True)


def predict(model_path: str | Path, waveforms: list[np.ndarray], batch_size: int = 100) -> np.ndarray:
    """Classify 16 kHz waveforms.

    Args:
        model_path: Folder or Hub id of the model and its feature extractor.
        waveforms: Clips, each of shape (S,), at most 1.6 s long.
        batch_size: Number of clips per batch.

    Returns:
        Index of the predicted label for each waveform.
    """
    model = HfASTForAudioClassification.from_pretrained(model_path).eval()
    feature_extractor = HfASTFeatureExtractor.from_pretrained(model_path)
    classes = []
    for start in range(0, len(waveforms), batch_size):
        batch = waveforms[start : start + batch_size]
        features = feature_extractor(batch, sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt")
        with torch.inference_mode():
            classes.append(model(**features).logits.argmax(-1))
    return torch.cat(classes).numpy()


def evaluate(
    model_path: str | Path = EMBEDDED_MODEL, *, split: str = "test", num_per_class: int = 200, seed: int = 0
) -> dict[str, Any]:
    """Measure the accuracy on held-out voices, without noise and with noise at 10 to 30 dB.

    Args:
        model_path: Folder or Hub id of the model.
        split: "test" or "validation".
        num_per_class: Number of clips of each class without noise, and again with noise.
        seed: Another seed gives other clips.

    Returns:
        A dictionary for JSON: `num_clips`; `accuracy` (all classes are equally frequent), `accuracy_clean`,
        `accuracy_noisy`; `per_class`; `unheard_words`, the accuracy on `_unknown_` clips whose words are new as well;
        `confusions`, the number of clips for each wrong "truth -> prediction", the most frequent first.
    """
    clips = held_out_clips(num_per_class, split, seed)
    unheard = unheard_words(num_per_class, split, seed)
    predictions = predict(model_path, [clip.waveform for clip in clips])
    truth = np.array([LABELS.index(clip.label) for clip in clips])
    noisy = np.array([clip.noisy for clip in clips])
    correct = predictions == truth
    wrong = Counter(f"{LABELS[truth[i]]} -> {LABELS[predictions[i]]}" for i in np.flatnonzero(~correct))
    return {
        "num_clips": len(clips),
        "accuracy": float(correct.mean()),
        "accuracy_clean": float(correct[~noisy].mean()),
        "accuracy_noisy": float(correct[noisy].mean()),
        "per_class": {label: float(correct[truth == index].mean()) for index, label in enumerate(LABELS)},
        "unheard_words": float((predict(model_path, unheard) == LABELS.index(UNKNOWN)).mean()),
        "confusions": dict(wrong.most_common()),
    }


def unheard_words(num_clips: int, split: str, seed: int) -> list[np.ndarray]:
    """Make clean clips of words and voices that do not occur in training, each of shape (S,)."""
    pool = speech_pool(split, 0, num_clips, seed, words=split)
    rng = np.random.default_rng([seed, 3])
    return [random_clip(pool, UNKNOWN, None, rng) for _ in range(num_clips)]


def report(result: dict[str, Any]) -> str:
    """Format the result of `evaluate` as text."""
    lines = [
        f"{result['num_clips']} clips of voices never heard in training",
        f"accuracy  {result['accuracy']:.2%}  (clean {result['accuracy_clean']:.2%}, "
        f"noise at 10 to 30 dB {result['accuracy_noisy']:.2%})",
        *(f"  {label:<10} {accuracy:.2%}" for label, accuracy in result["per_class"].items()),
        f"words never heard in training, recognised as {UNKNOWN}: {result['unheard_words']:.2%}",
        "confusions (truth -> prediction): "
        + (", ".join(f"{pair} {count}" for pair, count in result["confusions"].items()) or "none"),
    ]
    return "\n".join(lines)
