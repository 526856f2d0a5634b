"""Saving from generated code: transformers copies the file, which is complete."""

from contextlib import AbstractContextManager, nullcontext


def generated_code(saved_class: type) -> AbstractContextManager[None]:
    """A context without effect; the package generates the files in it."""
    return nullcontext()
