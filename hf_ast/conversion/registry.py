"""Every released checkpoint, by our name and by its other names."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from .checkpoint import Checkpoint, file_name
from .checkpoints_ast import AST_CHECKPOINTS, DEIT_CHECKPOINTS
from .checkpoints_fpasst import FPASST_CHECKPOINTS
from .checkpoints_maest import MAEST_CHECKPOINTS
from .checkpoints_passt import PASST_CHECKPOINTS
from .checkpoints_ssast import SSAST_CHECKPOINTS


def _by_name(checkpoints: tuple[Checkpoint, ...]) -> dict[str, Checkpoint]:
    """Map names to checkpoints; a name that occurs twice is an error."""
    by_name: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints:
        if checkpoint.name in by_name:
            raise ValueError(f"Two checkpoints are called {checkpoint.name!r}.")
        by_name[checkpoint.name] = checkpoint
    return by_name


def _by_alias(checkpoints: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """Map every name of a checkpoint, in lower case, to it; a name of two checkpoints is an error."""
    by_alias: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints.values():
        files = [file_name(url) for url in checkpoint.urls]
        stems = [file.rpartition(".")[0] for file in files]
        names = (checkpoint.name, checkpoint.hub_id, *files, *stems, *checkpoint.aliases)
        for alias in {name.lower() for name in names}:
            if alias in by_alias:
                raise ValueError(f"{checkpoint.name} and {by_alias[alias].name} are both called {alias!r}.")
            by_alias[alias] = checkpoint
    return by_alias


CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType(
    _by_name(
        (
            *AST_CHECKPOINTS,
            *SSAST_CHECKPOINTS,
            *PASST_CHECKPOINTS,
            *FPASST_CHECKPOINTS,
            *MAEST_CHECKPOINTS,
            *DEIT_CHECKPOINTS,
        )
    )
)
ALIASES: Mapping[str, Checkpoint] = MappingProxyType(_by_alias(CHECKPOINTS))


def find(name: str) -> Checkpoint:
    """Return the checkpoint of that name.

    Args:
        name: Our name, or any other one: of the official file, with or without its suffix, of PaSST's `arch`, of
            TorchOnlyAST, or of a repository on the Hub. Case does not matter.

    Raises:
        ValueError: No checkpoint has that name; the message suggests similar ones.
    """
    if name.lower() in ALIASES:
        return ALIASES[name.lower()]
    raise ValueError(f"No checkpoint is called {name!r}{close_names(name)}.")


def close_names(name: str) -> str:
    """Return a remark for error messages: names similar to an unknown one, and the command that lists all."""
    close = difflib.get_close_matches(name.lower(), ALIASES, n=3, cutoff=0.4)
    hint = f"close: {', '.join(close)}; " if close else ""
    return f" ({hint}`hf-ast checkpoints` lists all)"


def search(*, family: str | None = None, words: str = "") -> list[Checkpoint]:
    """List the checkpoints of a family, or of all, that have each of the words in a name or the title."""
    found = []
    for checkpoint in CHECKPOINTS.values():
        text = " ".join((checkpoint.name, checkpoint.title, checkpoint.file_name, *checkpoint.aliases)).lower()
        if family in (None, checkpoint.family) and all(word in text for word in words.lower().split()):
            found.append(checkpoint)
    return found
