"""Does pretraining pay? A tiny SSAST with few labels, pretrained without labels against the same model from scratch.

    python -m tests.benchmarks.label_efficiency

For each kind of patch and each seed: pretrain on unlabelled synthetic speech and other sounds; fine-tune on a few
clips of each of ten words, and fine-tune the same model from a random start. Both get the same clips, steps and choice
of learning rates, each picks its own on validation voices, and the table holds the accuracy on test voices. No voice
is in two of the three. Beside it stands a linear probe: a logistic regression on the frozen features of both starts.
"""

import argparse
import json
import statistics
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
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
    unlabelled_clips,
)

LEARNING_RATES = (1e-3, 3e-3)
PROBE_PENALTIES = (0.003, 0.03, 0.3)  # C of scikit-learn: smaller ones keep the weights smaller
NUM_VALIDATION, NUM_TEST = 20, 100  # clips per word
STARTS = ("scratch", "pretrained")


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


@torch.inference_mode()
def layer_means(model: PreTrainedModel, clips: Clips) -> np.ndarray:
    """Means over the patches, of the embeddings and of each layer's output, shape (layers + 1, B, D)."""
    model.eval()
    rows, columns = model.config.grid
    means = []
    for batch in clips.spectrograms.to(model.device).split(100):
        states = model.backbone(batch, output_hidden_states=True).hidden_states
        means.append(torch.stack([state[:, -rows * columns :].mean(dim=1) for state in states]).cpu())
    return torch.cat(means, dim=1).numpy()


def probe_accuracy(start: PreTrainedModel, train: Clips, validation: Clips, test: Clips) -> float:
    """Accuracy of a linear probe on the test clips, of the layer and penalty that are best on the validation clips."""
    features = [layer_means(start, clips) for clips in (train, validation, test)]
    results = []
    for layer in range(len(features[0])):
        of_train, of_validation, of_test = (feature[layer] for feature in features)
        for penalty in PROBE_PENALTIES:
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300))
            probe.fit(of_train, train.labels)
            results.append((probe.score(of_validation, validation.labels), probe.score(of_test, test.labels)))
    return max(results)[1]


def run_kind(kind: str, args: argparse.Namespace) -> list[dict[str, float]]:
    """Test accuracies of both starts, for each seed of all weights, the labelled clips and the trainings."""
    config = new_config(kind, **args.config)
    clips = unlabelled_clips(args.unlabelled, seed=0)
    validation, test = labelled_clips("validation", NUM_VALIDATION, 0), labelled_clips("test", args.test, 0)
    pretrained: list[SSASTForPreTraining] = []
    results = []
    for seed in range(args.seeds):
        if seed < args.pretrainings:
            pretrained.append(pretrained_model(config, clips, args.pretraining_steps, seed))
        train = labelled_clips("train", args.labels, seed)
        set_seed(seed)
        starts = {"scratch": SSASTForPreTraining(config), "pretrained": pretrained[seed % len(pretrained)]}
        accuracies = {}
        for name, start in starts.items():
            accuracies[name] = fine_tuned_accuracy(start, train, validation, test, args.steps, seed)
            accuracies[f"{name}, probe"] = probe_accuracy(start, train, validation, test)
        results.append(accuracies)
        print(table({kind: results}), flush=True)
    return results


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Accuracy in percent: a row for each kind and start, a column for each seed; gains with their standard error."""
    lines = []
    for kind, runs in results.items():
        for way, suffix in (("fine-tuned", ""), ("probe", ", probe")):
            rows = {start: [100 * run[start + suffix] for run in runs] for start in STARTS}
            rows["gain"] = [after - before for before, after in zip(*rows.values(), strict=True)]
            for name, values in rows.items():
                columns = "".join(f"{value:8.1f}" for value in values)
                error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
                lines.append(f"{kind:<7}{way:<11}{name:<11}{columns}   mean {statistics.mean(values):.1f}{error}")
    return "\n".join(lines)


def main() -> None:
    """Run all kinds and seeds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=PATCH_SIZES, default=list(PATCH_SIZES))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument(
        "--pretrainings",
        type=int,
        default=3,
        help="pretrained models of each kind; fewer than seeds are taken in turn",
    )
    parser.add_argument("--labels", type=int, default=10, help="labelled clips per word")
    parser.add_argument("--unlabelled", type=int, default=8000, help="unlabelled clips")
    parser.add_argument("--pretraining-steps", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=300, help="fine-tuning steps")
    parser.add_argument("--test", type=int, default=NUM_TEST, help="test clips per word")
    parser.add_argument(
        "--config", type=json.loads, default={}, help="other fields of the config, such as '{\"mask_ratio\": 0.78}'"
    )
    parser.add_argument("--json", metavar="FILE", help="write the accuracies there, too")
    args = parser.parse_args()
    logging.disable_progress_bar()
    results: dict[str, Any] = {}
    for kind in args.kinds:
        results[kind] = run_kind(kind, args)
        if args.json:
            with open(args.json, "w") as file:
                json.dump({"settings": vars(args), "accuracy": results}, file, indent=1)
    print(table(results))


if __name__ == "__main__":
    main()
