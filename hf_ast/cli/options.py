"""Options and arguments that several commands have."""

import math
from pathlib import Path
from typing import Annotated

import typer

from hf_ast.assets import EMBEDDED_MODEL


def positive(value: float | None) -> float | None:
    """Check that a value is greater than zero and finite."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value} is not a positive number.")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
# With `DEFAULT_MODEL` as default
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        show_default="the embedded keyword model",
        help="Id on the Hub, folder, or any name of a released checkpoint (`hf-ast checkpoints` lists them).",
    ),
]
DEFAULT_MODEL = str(EMBEDDED_MODEL)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `hf-ast convert` made.")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Folder of official files.", show_default="$HF_HOME/hf_ast"),
]
Window = Annotated[
    float | None,
    typer.Option(
        "--window",
        metavar="SECONDS",
        callback=positive,
        help="Length of a window.",
        show_default="what the model hears at once",
    ),
]
Hop = Annotated[
    float | None,
    typer.Option(
        "--hop",
        metavar="SECONDS",
        callback=positive,
        help="Time between the starts of two windows.",
        show_default="one window",
    ),
]


def quiet_loading() -> None:
    """Hide the progress bars of transformers for loading, which takes a second, but not those of downloads."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()
