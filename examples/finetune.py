"""Fine-tune the embedded model on two synthetic classes, tones and noises: python examples/finetune.py OUT."""

import sys

import numpy as np
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, Trainer, TrainingArguments, set_seed

import hf_ast

RATE_HZ = 16000


def make_clip(label: int, rng: np.random.Generator) -> np.ndarray:
    """Make 0.5 s of a tone (label 0) or of white noise (label 1), shape (S,)."""
    tone = np.sin(2 * np.pi * rng.uniform(200, 2000) * np.arange(RATE_HZ // 2) / RATE_HZ)
    return 0.3 * (rng.standard_normal(RATE_HZ // 2) if label else tone)


def main(out: str, num_clips: int = 32) -> float:
    """Train on `num_clips` clips, save the model in the folder `out`, and return its accuracy on as many new clips."""
    set_seed(0)
    model_name, names = hf_ast.assets.EMBEDDED_MODEL, {0: "tone", 1: "noise"}
    extractor = AutoFeatureExtractor.from_pretrained(model_name)
    model = AutoModelForAudioClassification.from_pretrained(model_name, id2label=names, ignore_mismatched_sizes=True)
    labels, rng = [index % 2 for index in range(2 * num_clips)], np.random.default_rng(0)
    inputs = extractor([make_clip(label, rng) for label in labels], sampling_rate=RATE_HZ)["input_values"]
    data = [{"input_values": values, "labels": label} for values, label in zip(inputs, labels, strict=True)]
    arguments = TrainingArguments(out, num_train_epochs=4, learning_rate=1e-3, report_to="none", save_strategy="no")
    trainer = Trainer(model, arguments, train_dataset=data[:num_clips], processing_class=extractor)
    trainer.train()
    trainer.save_model(out)
    result = trainer.predict(data[num_clips:])
    return float((result.predictions.argmax(-1) == result.label_ids).mean())


if __name__ == "__main__":
    print(f"accuracy on new clips: {main(*sys.argv[1:]):.0%}")
