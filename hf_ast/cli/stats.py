"""`hf-ast stats`."""

import sys
from typing import Annotated

import typer

from .datasets import (
    Data,
    LabelOptions,
)
from .options import DEFAULT_MODEL, FrontEndOptions, Json, Model, with_options
from .output import show_result


@with_options
def stats(
    data: Data,
    options: FrontEndOptions,
    labels: LabelOptions,
    model: Model = DEFAULT_MODEL,
    num_recordings: Annotated[
        int, typer.Option(min=1, help="Number of recordings, drawn from the training split.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the recordings that are drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Compute the mean and standard deviation of log-mel values in recordings.

    They are the `mean` and `std` of a feature extractor; the model says which spectrogram. `hf-ast finetune --stats
    data` uses them. Counts of the classes and files that cannot be used are reported on stderr. With `--json`, an
    object with `mean`, `std`, those of the `checkpoint`, `num_recordings`, `classes`, `skipped` and `warned`.
    """
    from hf_ast.training.preparation import data_statistics

    encoder, feature_extractor = options.encoder(model)
    found = labels.read(
        data,
        validation_fraction=0.0,
    )
    clips = found.of("train") or found.clips
    mean, std = data_statistics(
        feature_extractor,
        found,
        clips,
        num_recordings=num_recordings,
        seed=seed,
        device=encoder.device,
        progress=sys.stderr.isatty(),
    )
    result = {
        "mean": mean,
        "std": std,
        "checkpoint": {"mean": feature_extractor.mean, "std": feature_extractor.std},
        "num_recordings": min(num_recordings, len(clips)),
        "classes": found.counts(),
        "skipped": found.skipped,
        "warned": found.warned,
    }
    of_checkpoint = f"checkpoint: {feature_extractor.mean:.6g}, {feature_extractor.std:.6g}"
    show_result(as_json, result, [f"mean {mean:.6g}", f"std  {std:.6g}", f"({of_checkpoint})"])
    if found.failed:
        raise typer.Exit(1)
