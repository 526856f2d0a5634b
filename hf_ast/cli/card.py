"""`hf-ast card`."""

from .options import Folder, Json, quiet_loading
from .output import show_result


def card(folder: Folder, as_json: Json = False) -> None:
    """Write the model card of a folder.

    The card is the README.md of the folder, with snippets, results, licence and origin. Prints its path; with
    `--json`, an object with `card`.
    """
    from hf_ast.conversion.cards import write_card

    quiet_loading()
    path = str(write_card(folder))
    show_result(as_json, {"card": path}, [path])
