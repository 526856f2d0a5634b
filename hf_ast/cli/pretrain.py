"""`hf-ast pretrain`."""

import sys
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import Json, positive
from .output import show_result


class Size(StrEnum):
    """Sizes of the official models."""

    TINY = "tiny"
    SMALL = "small"
    BASE = "base"


class Kind(StrEnum):
    """Shapes of the patches of the official models."""

    PATCH = "patch"
    FRAME = "frame"


def pretrain(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with recordings, also in subfolders.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model.")] = Path("ssast"),
    size: Annotated[Size, typer.Option(help="Size of the model.")] = Size.TINY,
    kind: Annotated[
        Kind, typer.Option(help="Shape of the patches: 16 mel bins and frames, or all mel bins of 2 frames.")
    ] = Kind.PATCH,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="SSAST to start from instead, which has its own size, kind and duration: id on the Hub, folder, or "
            "any name of a released checkpoint.",
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option(metavar="SECONDS", callback=positive, help="Length of the clips that the model sees.")
    ] = 10.24,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimiser.")] = 100_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips per step and device.")] = 24,
    learning_rate: Annotated[
        float, typer.Option(metavar="NUMBER", callback=positive, help="Largest learning rate.")
    ] = 1e-4,
    eval_every: Annotated[
        int, typer.Option(min=1, help="Steps between evaluations, and between saved states.")
    ] = 1000,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read audio.")] = 2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights, clips and masks.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last state saved in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Pretrain an SSAST on recordings without labels.

    The recordings may have any format that libsndfile reads. Damaged ones are left out and named at the end. Prints
    the folder of the model; with `--json`, an object with `folder` and `num_parameters`.
    """
    from hf_ast.checkpoints import resolve_model
    from hf_ast.training import pretraining

    start = None if model is None else resolve_model(model)
    try:
        with redirect_stdout(sys.stderr):  # where the Trainer prints its logs
            network = pretraining.pretrain(
                data,
                out,
                size=size,
                kind=kind,
                model=start,
                duration_s=duration,
                num_steps=steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
                eval_every=eval_every,
                num_workers=num_workers,
                seed=seed,
                resume=resume,
            )
    except KeyboardInterrupt:
        if any((out / "checkpoints").glob("checkpoint-*")):
            raise KeyboardInterrupt("; --resume continues from the last saved state") from None
        raise
    show_result(as_json, {"folder": str(out), "num_parameters": network.num_parameters()}, [str(out)])
