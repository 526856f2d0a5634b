"""`hf-ast verify`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Cache, Folder, Json, quiet_loading
from .output import show_result


def verify(
    folder: Folder,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Official file that the folder was made from.", show_default="the downloaded one"
        ),
    ] = None,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Prove a folder against the official file.

    Every tensor is compared bit for bit, and the output of a forward pass with that of an independent implementation
    and, for AST, of transformers' own. The result is printed, and written into the folder's conversion.json. A folder
    that is not what the file holds is an error.

    With `--json`, the result is an object as conversion.json holds it, with `folder` and `source`.
    """
    from hf_ast.checkpoints import converter

    quiet_loading()
    commands, verifying = converter("commands"), converter("verify")
    file = commands.source_of(folder, cache=cache) if source is None else source
    report = verifying.verify_folder(folder, file)
    data = {"folder": str(folder), "source": str(file), **report}
    show_result(as_json, data, [verifying.format_verification(report)])
    commands.expect_passed(report, folder, file)
