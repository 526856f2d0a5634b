"""`hf-ast pretrain`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hf_ast.choices import PatchKind, PretrainingOptimizer, PretrainingSize

from .datasets import (
    AudioFolder,
    BFloat16,
    GradientAccumulation,
    NumWorkers,
    PushToHub,
    ReportTo,
    Resume,
    SplitColumn,
    Subset,
    WholeFiles,
    is_main_process,
    resumable,
)
from .errors import note
from .files import note_archives
from .options import Json, ModelOptions, positive, with_options
from .output import show_result


def all_positive(values: list[float] | None) -> list[float] | None:
    """Check that all values are greater than zero and finite."""
    for value in values or []:
        positive(value)
    return values


@with_options
def pretrain(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Recordings: a folder with its subfolders; manifest (.csv, .tsv, .json, .jsonl, .parquet) with a "
            "column of paths; tar shards, such as `'shard-{000..005}.tar'`, or a folder of them; or data set of "
            "`datasets`, as a folder or its id on the Hub. Labels are not needed.",
            show_default=False,
        ),
    ],
    options: ModelOptions,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model.")] = Path("ssast"),
    size: Annotated[PretrainingSize, typer.Option(help="Size of the model.")] = "tiny",
    kind: Annotated[
        PatchKind, typer.Option(help="Shape of the patches: 16 mel bins and frames, or all mel bins of 2 frames.")
    ] = "patch",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="SSAST to start from instead, which has its own size, kind and duration: id on the Hub, folder, or "
            "any name of a released checkpoint.",
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            callback=positive,
            help="Length of the clips that the model sees.",
            show_default="that of the longest recording, at most 10.24",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of the optimiser.", show_default="those of 50 epochs, from 1000 to 100000"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips per forward pass and process.")] = 24,
    gradient_accumulation: GradientAccumulation = 1,
    optimizer: Annotated[
        PretrainingOptimizer,
        typer.Option(help="That of the official code, or one with which small models need fewer steps."),
    ] = "adamw",
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", callback=positive, help="Peak learning rate.", show_default="1e-4; Muon: 4e-3"),
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps between evaluations, and between saved states.",
            show_default="a twentieth of all, at most 1000",
        ),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            metavar="NUMBER",
            callback=all_positive,
            help="Share of a source in the crops, in any unit; once for each DATA, in the same order.",
            show_default="durations",
        ),
    ] = None,
    split_column: SplitColumn = "split",
    audio_folder: AudioFolder = None,
    whole_files: WholeFiles = False,
    subset: Subset = None,
    num_workers: NumWorkers = 2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights, clips and masks.")] = 0,
    bf16: BFloat16 = False,
    report_to: ReportTo = "none",
    push_to_hub: PushToHub = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Pretrain an SSAST on recordings without labels.

    The recordings may have any format of docs/recordings.md. Files that cannot be read are named first, damaged ones
    at the end. Where DATA name splits, only the training split is trained on. Prints the folder of the model; with
    `--json`, an object with `folder`, `num_parameters`, `skipped` and
    `warned`.

    On several processes: `accelerate launch -m hf_ast.cli pretrain DATA --out DIR`, or the same with `torchrun
    --nproc-per-node N -m`. --batch-size is per process.
    """
    from hf_ast.training import mixtures, pretraining
    from hf_ast.training.extras import expect_train

    expect_train()

    with resumable(out):
        mixture = mixtures.read_mixture(
            data,
            weights=weight or None,
            split_column=split_column,
            audio_folder=audio_folder,
            whole_files=whole_files,
            subset=subset,
            seed=seed,
            progress=sys.stderr.isatty(),
        )
        if is_main_process():
            for part in mixture.parts:
                note_archives(part.source.archives(), part.source.location)
            for line in mixture.describe():
                note(line)
        network = pretraining.pretrain(
            mixture,
            out,
            size=size,
            kind=kind,
            model=model,
            duration_s=duration,
            num_steps=steps,
            batch_size=batch_size,
            gradient_accumulation_steps=gradient_accumulation,
            optimizer=optimizer,
            learning_rate=learning_rate,
            eval_every=eval_every,
            num_workers=num_workers,
            seed=seed,
            bf16=bf16,
            report_to=report_to,
            resume=resume,
            push_to_hub=push_to_hub,
            progress=sys.stderr.isatty(),
            **options.settings(),
        )
    if is_main_process():
        skipped, warned = mixture.reasons()
        result = {
            "folder": str(out),
            "num_parameters": network.num_parameters(),
            "skipped": skipped,
            "warned": warned,
        }
        show_result(as_json, result, [str(out)])
        if skipped:
            raise typer.Exit(1)
