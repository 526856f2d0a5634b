"""`hf-ast evaluate`."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hf_ast.choices import Protocol, Split, TrainingTask

from .datasets import (
    Data,
    LabelOptions,
    as_lines,
    describe,
    report_failed,
)
from .errors import note
from .options import BatchOptions, Json, positive, quiet_loading, with_options
from .output import show_result

if TYPE_CHECKING:
    from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor


@with_options
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Classifier: ours, transformers' own AST, or any other one for waveforms. Id on the Hub, folder, or "
            "any name of a released checkpoint.",
            show_default=False,
        ),
    ],
    data: Data,
    options: BatchOptions,
    labels: LabelOptions,
    task: Annotated[
        TrainingTask | None,
        typer.Option(
            help="clips: which classes a recording or segment has. events: when each class is heard.",
            show_default="events for a model that labels cells of time",
        ),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(help="Part of the data.", show_default="test, if the data name such a split, else all"),
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            help="esc50: five folds. With {fold} in MODEL, each of five models is tested on the fold that it was not "
            "trained on; otherwise MODEL is fine-tuned five times, into --out.",
            show_default="none",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the models of --protocol.", show_default="none")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(callback=positive, help="Epochs of --protocol.", show_default="those of the preset esc50"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", callback=positive, help="Learning rate of --protocol.", show_default="likewise"
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to draw the confusion matrix, for multi-label data the average precision of each class, for "
            "events those of a recording, marked and found.",
            show_default="none",
        ),
    ] = None,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read audio in training.")] = 2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the held-out part, and of training.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure how well a model labels recordings.

    Whole recordings are scored, in windows where they are longer than the model's input, as `hf-ast classify` does.
    A model that labels cells of time is measured by its events: PSDS1, PSDS2, and F1 over events and over segments.

    Prints accuracy (single-label data), mAP, AUC and d-prime. With `--json`, an object with `split`,
    `num_recordings`, `metrics`, `classes`, `confusion`, `failed` (`file` and `error` of recordings that could not be
    scored, which no figure counts), `skipped` and `warned`; with `--protocol`, with `folds` and their `mean`. A class
    without a recording has no average precision and is left out of the means.
    """
    from hf_ast.checkpoints import resolve_model
    from hf_ast.inference.front_ends import labels_frames
    from hf_ast.opening import hub_settings

    quiet_loading()
    if protocol is not None:
        _run_esc50(model, data, out, epochs, learning_rate, options, num_workers, seed, as_json)
        return
    if task is None:
        path = resolve_model(model, revision=options.revision, token=options.token)
        is_of_frames = labels_frames(path, **hub_settings(options.revision, options.token))
        task = "events" if is_of_frames else "clips"
    found: Any = labels.read(data, task, seed=seed)
    part = ("test" if found.of("test") else "all") if split is None else split
    result: Any
    settings: dict[str, Any] = {"split": part, "batch_size": options.batch_size, "progress": sys.stderr.isatty()}
    if task == "events":
        from hf_ast.training.event_evaluation import evaluate_events

        network, extractor = options.classifier(model, frames=True)
        result = evaluate_events(network, cast("SpectrogramFeatureExtractor", extractor), found, **settings)
    else:
        from hf_ast.training.evaluate import evaluate

        result = evaluate(*options.classifier(model), found, with_baselines=True, **settings)
    if figure is not None:
        result.figure().savefig(figure, dpi=100)
    reasons = {"skipped": found.skipped, "warned": found.warned}
    show_result(as_json, {"split": part} | result.as_data() | reasons, as_lines(result))
    if report_failed(result) or found.failed:
        raise typer.Exit(1)


def _run_esc50(
    model: str,
    source: str,
    out: Path | None,
    epochs: float | None,
    learning_rate: float | None,
    options: BatchOptions,
    num_workers: int,
    seed: int,
    as_json: bool,
) -> None:
    """Evaluate on the five folds of ESC-50, and print accuracies of each and their mean."""
    from hf_ast.data.labelled import LabelledData
    from hf_ast.training.esc50 import evaluate_folds, read_esc50
    from hf_ast.training.finetune import finetune

    progress = sys.stderr.isatty()
    data = read_esc50(source, progress=progress)
    for line in describe(data):
        note(line)

    def train(split: LabelledData, fold: str) -> Any:
        assert out is not None
        done = finetune(
            split,
            out / f"fold{fold}",
            model=model,
            preset="esc50",
            num_epochs=epochs,
            learning_rate=learning_rate,
            num_workers=num_workers,
            seed=seed,
            progress=progress,
            **options.loading(),
        )
        return done.model, done.feature_extractor

    with redirect_stdout(sys.stderr):
        results = evaluate_folds(
            data,
            model,
            train=train if out is not None and "{fold}" not in model else None,
            batch_size=options.batch_size,
            progress=progress,
            **options.loading(),
        )
    folds = [result.metrics.values for result in results]
    mean = {name: sum(fold[name] for fold in folds) / len(folds) for name in ("accuracy", "balanced_accuracy", "mAP")}
    lines = [f"fold {number}  {fold['accuracy']:.4f}" for number, fold in enumerate(folds, start=1)]
    data_of_folds = [result.as_data()["metrics"] for result in results]
    show_result(as_json, {"folds": data_of_folds, "mean": mean}, [*lines, f"mean    {mean['accuracy']:.4f}"])
    num_failed = sum(report_failed(result) for result in results)
    if num_failed or data.failed:
        raise typer.Exit(1)
