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
    """Verify a folder against the official file.

    All tensors are compared bit for bit. The output of a forward pass is compared with that of an independent
    implementation and, for AST, with that of transformers' own. The result is printed and written into the
    conversion.json of the folder. If the folder does not pass, the exit status is 1.

    With `--json`, the result is an object with `folder`, `source`, and the fields that conversion.json has.
    """
    from hf_ast.conversion import commands
    from hf_ast.conversion.verification import format_verification
    from hf_ast.conversion.verify import verify_folder

    quiet_loading()
    file = commands.source_of(folder, cache=cache) if source is None else source
    verification = verify_folder(folder, file)
    data = {"folder": str(folder), "source": str(file), **verification.to_json()}
    show_result(as_json, data, [format_verification(verification)])
    commands.expect_passed(verification, folder, file)
