"""`hf-ast export-official`."""

from pathlib import Path
from typing import Annotated

import typer

from hf_ast.choices import OtherLayout

from .errors import note
from .options import Json, quiet_loading
from .output import show_result


def export_official(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a model: converted, or fine-tuned and saved.")
    ],
    out: Annotated[Path, typer.Option(metavar="PATH", help="File to create; with --layout native, folder.")],
    layout: Annotated[
        OtherLayout,
        typer.Option(help="A file for the official code, or a folder for the AST that comes with transformers."),
    ] = "official",
    as_json: Json = False,
) -> None:
    """Write a model in the layout of the official code.

    Prints the path of the result. With `--json`, the result is an object with `out`, `layout`, and `zeros`: names of
    tensors that the official loader demands but does not use, and that are written as zeros.
    """
    from hf_ast.conversion.export import export_folder

    quiet_loading()
    zeros = export_folder(folder, out, layout)
    show_result(as_json, {"out": str(out), "layout": layout, "zeros": zeros}, [str(out)])
    if zeros:
        note(f"written as zeros, because the official loader demands them but does not use them: {', '.join(zeros)}")
