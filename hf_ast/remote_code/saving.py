"""Saving with generated code, by transformers' own way of saving custom classes."""

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from .generator import generate

MODELS = f"{__package__.rpartition('.')[0]}.models."
_lock = threading.RLock()


@contextmanager
def generated_code(saved_class: type) -> Iterator[None]:
    """A context in which transformers saves a class of ours with its generated files, not with those of the package.

    Whatever saves (`save_pretrained`, `push_to_hub`, `Trainer`, a pipeline), transformers copies the file of the
    object's module, and the files that this one imports. So within the context, that file is a generated one. Classes
    that others derived from ours are saved as always: with the file that defines them.

    Args:
        saved_class: Class of the config, model or feature extractor that is saved within.
    """
    module = sys.modules[saved_class.__module__]
    if not module.__name__.startswith(MODELS) or module.__spec__ is None or module.__spec__.origin is None:
        yield
        return
    source = Path(module.__spec__.origin)
    # The lock may be taken again by the same thread: a model saves its config
    with _lock, tempfile.TemporaryDirectory() as folder:
        for name, text in _generated(source).items():
            (Path(folder) / name).write_text(text, encoding="utf-8", newline="\n")
        module.__file__ = str(Path(folder) / source.name)
        try:
            yield
        finally:
            module.__file__ = str(source)


@cache
def _generated(source: Path) -> dict[str, str]:
    return generate(source)
