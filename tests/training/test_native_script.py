"""The calls of transformers' run_audio_classification.py: what its Trainer measures, the pipelines measure as well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from transformers import (
    AudioClassificationPipeline,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)

from hf_ast import (
    HfASTFeatureExtractor,
    HfASTForAudioClassification,
    PaSSTConfig,
    PaSSTFeatureExtractor,
    PaSSTForAudioClassification,
    SSASTForAudioClassification,
)
from hf_ast.inference.pipelines import WholeAudioClassificationPipeline
from tests.support.tiny import GEOMETRY, SIZE, tiny_config, tiny_ssast_config

LABELS = ["chirp", "noise", "tone"]
# The tiny models hear 50 frames, 0.5 s
SHORT_S, LONG_S = (0.25, 0.5), (0.7, 0.9)
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0.0}  # sums of other lengths, in float32
LEARNS = {"initializer_range": 0.2}  # so that narrow layers learn within a few steps
FAMILIES: dict[str, tuple[Callable[[], PreTrainedModel], type[Any]]] = {
    "ast": (lambda: HfASTForAudioClassification(tiny_config(**LEARNS)), HfASTFeatureExtractor),
    "ssast": (lambda: SSASTForAudioClassification(tiny_ssast_config(**LEARNS)), HfASTFeatureExtractor),
    "passt": (
        lambda: PaSSTForAudioClassification(PaSSTConfig(**SIZE | GEOMETRY | LEARNS, num_labels=5, time_patchout=2)),
        PaSSTFeatureExtractor,
    ),
}


class Heard(NamedTuple):
    """Clips, the numbers of their classes, and what the Trainer measured on them: accuracy, and scores (B, C)."""

    clips: list[np.ndarray]
    labels: list[int]
    accuracy: float
    scores: np.ndarray


def sounds(num_clips: int, rate: int, duration_s: tuple[float, float], seed: int) -> Dataset:
    """Clips of different lengths, the classes in turn, as `datasets` decodes them."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"audio": [], "label": []}
    for number in range(num_clips):
        t = np.arange(int(rng.uniform(*duration_s) * rate)) / rate
        pitch = 2 * np.pi * rng.uniform(300, 600) * t
        waveform = (
            np.sin(pitch + 2 * np.pi * 3000 * t**2),
            rng.standard_normal(len(t)) * (np.sin(60 * t) > 0),
            sum(np.sin(k * pitch) / k for k in range(1, 6)),
        )[number % 3]
        noise = 0.01 * rng.standard_normal(len(t))
        rows["audio"].append({"array": (0.1 * waveform + noise).astype(np.float32), "sampling_rate": rate})
        rows["label"].append(number % 3)
    return Dataset.from_dict(rows).cast_column("label", ClassLabel(names=LABELS))


def script(name: str, folder: Path) -> tuple[Heard, Heard]:
    """Fine-tune as the script does with the flags of docs/fine-tuning.md, and save the model in `folder`.

    Returns:
        What it measures on clips that fit into the model's window, and on longer ones.
    """
    make_model, extractor_class = FAMILIES[name]
    set_seed(0)
    make_model().save_pretrained(folder / "start")
    extractor_class(num_mel_bins=32, max_length=50).save_pretrained(folder / "start")

    extractor = AutoFeatureExtractor.from_pretrained(folder / "start", return_attention_mask=False)
    config = AutoConfig.from_pretrained(
        folder / "start",
        num_labels=len(LABELS),
        label2id={label: str(index) for index, label in enumerate(LABELS)},
        id2label={str(index): label for index, label in enumerate(LABELS)},
        finetuning_task="audio-classification",
    )
    model = AutoModelForAudioClassification.from_pretrained(
        folder / "start", config=config, ignore_mismatched_sizes=True
    )

    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        clips = [np.asarray(audio["array"], dtype=np.float32) for audio in batch["audio"]]
        inputs = extractor(clips, sampling_rate=extractor.sampling_rate)
        return {"input_values": inputs.get("input_values"), "labels": list(batch["label"])}

    rate = extractor.sampling_rate
    train = sounds(24, rate, SHORT_S, seed=1)
    train.set_transform(transform)
    trainer = Trainer(
        model,
        TrainingArguments(
            str(folder),
            num_train_epochs=8,
            learning_rate=1e-3,
            per_device_eval_batch_size=4,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=train,
        processing_class=extractor,
        compute_metrics=lambda result: {"accuracy": np.mean(result.predictions.argmax(1) == result.label_ids)},
    )
    trainer.train()
    trainer.save_model()

    short, long = sounds(15, rate, SHORT_S, seed=2), sounds(6, rate, LONG_S, seed=3)
    return heard(trainer, short, transform), heard(trainer, long, transform)


def heard(trainer: Trainer, validation: Dataset, transform: Callable[[dict[str, Any]], dict[str, Any]]) -> Heard:
    """What a trainer measures on a data set that is not transformed yet."""
    clips = [np.asarray(audio["array"], dtype=np.float32) for audio in validation["audio"]]
    labels = list(validation["label"])
    validation.set_transform(transform)
    result = trainer.predict(validation)
    assert result.metrics is not None
    scores = torch.as_tensor(result.predictions).softmax(1).numpy()
    return Heard(clips, labels, result.metrics["test_accuracy"], scores)


def pipeline_scores(classifier: Any, clips: list[np.ndarray]) -> np.ndarray:
    """Scores (B, C) that a pipeline gives to clips, in the order of the classes."""
    by_label = [{result["label"]: result["score"] for result in results} for results in classifier(clips)]
    return np.array([[scores[label] for label in LABELS] for scores in by_label])


@pytest.mark.parametrize("name", ["ast", "passt", pytest.param("ssast", marks=pytest.mark.slow)])
def test_trainer_and_pipelines_agree(name: str, tmp_path: Path) -> None:
    """Of clips that are longer than the window, the Trainer and transformers' own pipeline hear the beginning."""
    short, long = script(name, tmp_path)
    ours, native = (
        pipeline("audio-classification", str(tmp_path), pipeline_class=each, device="cpu", top_k=len(LABELS))
        for each in (WholeAudioClassificationPipeline, AudioClassificationPipeline)
    )
    assert short.accuracy > 0.8  # a third is chance
    for classifier in (ours, native):
        scores = pipeline_scores(classifier, short.clips)
        assert np.mean(scores.argmax(1) == short.labels) == short.accuracy
        np.testing.assert_allclose(scores, short.scores, **CLOSE)

    window = ours.feature_extractor.max_samples
    np.testing.assert_allclose(pipeline_scores(native, long.clips), long.scores, **CLOSE)
    np.testing.assert_allclose(pipeline_scores(ours, [clip[:window] for clip in long.clips]), long.scores, **CLOSE)
    # Two windows cover each of them, the beginning and the end
    ends = pipeline_scores(ours, [clip[-window:] for clip in long.clips])
    np.testing.assert_allclose(pipeline_scores(ours, long.clips), (long.scores + ends) / 2, **CLOSE)
