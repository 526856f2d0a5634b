"""Does a PaSST with patchout get as accurate as without it in less time? Keywords in synthetic speech, several seeds.

    python -m tests.benchmarks.patchout_accuracy

Both settings start from the same weights and see the same clips; only the training itself is timed, in turn. Beside
the time that passed stands that of the processor, which a busy machine does not change; on one thread and with nothing
else to do they are the same.
"""

import argparse
import statistics
import time
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from hf_ast import HfASTFeatureExtractor, PaSSTConfig, PaSSTForAudioClassification
from hf_ast.recipes.keywords.clips import LABELS, MEAN, STD, RandomClips, held_out_clips, speech_pool
from hf_ast.training.optimizers import MuonAdamW

BATCH_SIZE = 32
# Of 3 rows and 37 columns: 111 patches, which overlap, become 38
PATCHOUT = {"time_patchout": 18, "frequency_patchout": 1}


class Examples(NamedTuple):
    """Spectrograms (N, T, M) and class indices (N,)."""

    input_values: Tensor
    labels: Tensor


class Run(NamedTuple):
    """What one training took, and the accuracy on voices that it never heard."""

    duration_s: float
    processor_s: float
    accuracy: float


def new_model(seed: int, **changes: int) -> PaSSTForAudioClassification:
    """An untrained PaSST of 0.8 million parameters for clips of up to 1.6 s."""
    torch.manual_seed(seed)
    config = PaSSTConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        initializer_range=0.06,  # as for the keyword recogniser: a narrow model learns faster from it
        patch_size=(32, 16),
        frequency_stride=16,
        time_stride=4,
        max_length=160,
        num_mel_bins=64,
        num_labels=len(LABELS),
        problem_type="single_label_classification",
        **changes,
    )
    return PaSSTForAudioClassification(config)


def training_examples(extractor: HfASTFeatureExtractor, num_clips: int, seed: int) -> Examples:
    """Random clips of the training voices, made once."""
    pool = speech_pool("train", num_per_keyword=num_clips // 20, num_unknown=num_clips // 5, seed=seed)
    clips = RandomClips(pool, extractor, num_clips, seed)
    items = [clips[index] for index in tqdm(range(num_clips), desc="Training clips")]
    return Examples(
        torch.stack([item["input_values"] for item in items]), torch.tensor([item["labels"] for item in items])
    )


def test_examples(extractor: HfASTFeatureExtractor, num_per_class: int) -> Examples:
    """Clips of held-out voices, with and without noise."""
    clips = held_out_clips(num_per_class)
    inputs = extractor([clip.waveform for clip in clips], extractor.sampling_rate, return_tensors="pt")
    return Examples(inputs["input_values"], torch.tensor([LABELS.index(clip.label) for clip in clips]))


def train(model: PaSSTForAudioClassification, examples: Examples, num_epochs: int, seed: int) -> tuple[float, float]:
    """Train in place; returns the seconds that passed and those of the processor."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = MuonAdamW(model)
    num_batches = len(examples.labels) // BATCH_SIZE
    num_steps = num_epochs * num_batches
    schedule = get_cosine_schedule_with_warmup(optimizer, num_steps // 20, num_steps)
    model.train()
    start, processor_start = time.perf_counter(), time.process_time()
    for _ in range(num_epochs):
        order = torch.randperm(len(examples.labels), generator=generator)
        for batch in order[: num_batches * BATCH_SIZE].split(BATCH_SIZE):
            outputs = model(examples.input_values[batch], labels=examples.labels[batch], generator=generator)
            outputs.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return time.perf_counter() - start, time.process_time() - processor_start


@torch.inference_mode()
def accuracy(model: PaSSTForAudioClassification, examples: Examples) -> float:
    """Share of right answers."""
    model.eval()
    predictions = torch.cat([model(batch).logits.argmax(dim=1) for batch in examples.input_values.split(100)])
    return (predictions == examples.labels).float().mean().item()


def main() -> None:
    """Train both settings with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=4000, help="different training clips")
    parser.add_argument("--test-clips", type=int, default=50, help="per class, with noise and without")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--patchout-epochs", type=int, default=18)
    arguments = parser.parse_args()

    extractor = HfASTFeatureExtractor(num_mel_bins=64, max_length=160, mean=MEAN, std=STD)
    test = test_examples(extractor, arguments.test_clips)
    settings = {"without": ({}, arguments.epochs), "patchout": (PATCHOUT, arguments.patchout_epochs)}
    runs: dict[str, list[Run]] = {name: [] for name in settings}
    print("seed  setting   epochs  training  processor  accuracy")
    for seed in range(arguments.seeds):
        examples = training_examples(extractor, arguments.clips, seed)
        for name, (changes, num_epochs) in settings.items():
            model = new_model(seed, **changes)
            run = Run(*train(model, examples, num_epochs, seed), accuracy(model, test))
            runs[name].append(run)
            print(line(str(seed), name, num_epochs, run), flush=True)
    for name, (_, num_epochs) in settings.items():
        means = Run(*(statistics.mean(values) for values in zip(*runs[name], strict=True)))
        print(line("mean", name, num_epochs, means))


def line(seed: str, name: str, num_epochs: int, run: Run) -> str:
    """A line of the table."""
    return (
        f"{seed:>4}  {name:<8}  {num_epochs:>6}  {run.duration_s:6.0f} s  {run.processor_s:7.0f} s  "
        f"{run.accuracy:8.1%}"
    )


if __name__ == "__main__":
    main()
