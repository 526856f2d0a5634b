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

import torch
from transformers import PreTrainedModel, Trainer, set_seed
from transformers.utils import logging

from hf_ast import SSASTForAudioClassification, SSASTForPreTraining
from tests.benchmarks.keyword_task import (
    PATCH_SIZES,
    Clips,
    Items,
    labelled_clips,
    new_config,
    pretrained_model,
    run_trainer,
)

LEARNING_RATES = (1e-3, 3e-3)
NUM_VALIDATION, NUM_TEST = 20, 100  # clips per word


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


def run_kind(kind: str, args: argparse.Namespace) -> list[dict[str, float]]:
    """Test accuracies of both starts, for each seed of the labelled clips, the new weights and the training."""
    pretrained = pretrained_model(kind, args.unlabelled, args.pretraining_steps)
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
