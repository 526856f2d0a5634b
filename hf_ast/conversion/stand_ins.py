"""Open files of torch that hold more than tensors, without importing or calling anything that they name.

Trainers save their settings beside the weights: namespaces, paths, numpy's numbers, classes of Lightning or of the
project itself. torch's weights-only loader refuses each of them. Here every such name becomes a `StandIn`: a class of
ours that takes any arguments and keeps nothing. The loader thus never sees the real one, which need not be installed.

A file that names functions of the standard library is refused all the same: no trainer saves them, an attacker does.
"""

import pickle
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import torch

# What trainers save of the standard library: data, and how pickle builds objects
STANDARD_DATA = frozenset(
    """
    argparse.Namespace builtins.Ellipsis builtins.bytes builtins.dict builtins.float builtins.frozenset builtins.int
    builtins.list builtins.object builtins.range builtins.slice builtins.str builtins.tuple builtins.type
    collections.defaultdict collections.deque copyreg._reconstructor datetime.date datetime.datetime datetime.time
    datetime.timedelta datetime.timezone decimal.Decimal fractions.Fraction functools.partial pathlib.Path
    pathlib.PosixPath pathlib.PurePath pathlib.PurePosixPath pathlib.PureWindowsPath pathlib.WindowsPath
    types.SimpleNamespace typing.Any uuid.UUID
    """.split()
)
MAX_NAMES = 1000  # each takes one more attempt
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_CONTAINER = re.compile(r"Can only (append|extend|SETITEM).*<class '[^']*'>")


class StandIn:
    """Takes the place of an object in a file that only code could make; subclasses have its name."""

    full_name: ClassVar[str] = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Ignore all arguments."""
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


class ListStandIn(StandIn):
    """A class that the file fills as a list."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a plain list."""
        return []


class DictStandIn(StandIn):
    """A class that the file fills as a dictionary."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a dictionary of the kind whose attributes the loader sets as well."""
        return OrderedDict()


def load_without_code(file: Path, *, mmap: bool) -> Any:
    """Return the content of a file of torch, with stand-ins for everything but tensors and plain data.

    Args:
        file: File that `torch.save` wrote.
        mmap: Whether to map its tensors into memory, for zip archives.

    Raises:
        ValueError: The file names something that runs code; the message says what. Nothing of it was run.
        Exception: Any other, if the file is damaged.
    """
    stand_ins: dict[str, type[StandIn]] = {}
    for _ in range(MAX_NAMES):
        try:
            with torch.serialization.safe_globals([(known, name) for name, known in stand_ins.items()]):
                return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
        except pickle.UnpicklingError as error:
            _learn(str(error), stand_ins, file)
    raise ValueError(f"file={str(file)!r} names more than {MAX_NAMES} classes; save only its state dict.")


def _learn(message: str, stand_ins: dict[str, type[StandIn]], file: Path) -> None:
    """Add a stand-in for the name that the loader refused, or make one a list or a dictionary; else raise."""
    if (found := _GLOBAL.search(message)) is not None:
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"
        if name in stand_ins or (_is_standard(name) and name not in STANDARD_DATA):
            raise ValueError(
                f"file={str(file)!r} holds more than tensors: opening it would run {name}. None of it was run; "
                "if you trust the file, open it yourself and save only its state dict."
            )
        stand_ins[name] = _stand_in(name, StandIn)
        return
    for name, known in stand_ins.items():
        if _CONTAINER.search(message) and known.__qualname__ in message and known.__base__ is StandIn:
            stand_ins[name] = _stand_in(name, DictStandIn if "SETITEM" in message else ListStandIn)
            return
    raise pickle.UnpicklingError(message)


def _stand_in(name: str, base: type[StandIn]) -> type[StandIn]:
    # The loader's messages show a class by its name, which must tell it from all others
    return type(f"<{name}>", (base,), {"full_name": name})


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names
