"""`hf-ast publish`."""

from typing import Annotated

import typer

from .options import Folder, Json
from .output import show_result


def publish(
    folder: Folder,
    repo: Annotated[str, typer.Option(metavar="ID", help="Repository, such as your-name/ast-base-s10.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    as_json: Json = False,
) -> None:
    """Upload a verified folder to the Hub.

    The repository is created if it does not exist. The environment variables of huggingface_hub apply, such as
    HF_TOKEN. Prints the URL; with `--json`, an object with `url`.
    """
    from hf_ast.conversion.publish import publish_folder

    url = publish_folder(folder, repo, private=private)
    show_result(as_json, {"url": url}, [url])
