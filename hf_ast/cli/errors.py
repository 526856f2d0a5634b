"""Errors of commands: those that a user can act on are reported as sentences, all others with a traceback."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

from hf_ast.data.formats import RecordingWarning
from hf_ast.hub import network_errors
from hf_ast.text import CONTROL_IN_LINES

from .output import show

Item = TypeVar("Item")

# Exit status, as a shell reports it for programs that SIGINT and SIGPIPE end
INTERRUPTED, CLOSED_PIPE = 130, 141
# Whether all errors are shown with a traceback; the option --traceback sets it
SHOW_TRACEBACK = ContextVar("SHOW_TRACEBACK", default=False)


class Commands(TyperGroup):
    """A group of commands that reports errors, Ctrl-C and closed pipes, and turns them into an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            with warnings_as_sentences():
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            below = "\n" if sys.stderr.isatty() else ""  # the echoed ^C, and a progress bar that is still open
            note(f"{below}interrupted{interrupt}")
            raise typer.Exit(INTERRUPTED) from interrupt
        except BrokenPipeError as closed:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing it at exit would fail
            raise typer.Exit(CLOSED_PIPE) from closed
        except Exception as error:
            if not is_for_users(error):
                raise
            report(sentence(error))
            raise typer.Exit(1) from error


def for_each(
    items: Sequence[Item],
    work: Callable[[Item], None],
    fail: Callable[[Item, str], object],
    *,
    progress: str | None = None,
) -> None:
    """Call a function for each item. An error of one item does not keep the next one from its turn.

    Args:
        items: Arguments of the function.
        work: The function.
        fail: Called for an item with an error, and a sentence that says what is wrong.
        progress: Label of a progress bar; no bar if None, for a function that prints its results.

    Raises:
        KeyboardInterrupt: After Ctrl-C; the message says how many items were finished.
        Exception: Errors that do not belong to one item: a missing package, too little memory, or a closed pipe; with
            the option --traceback, every error.
    """
    for number, item in enumerate(items if progress is None else _with_progress_bar(items, progress)):
        try:
            work(item)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f" after {number} of {len(items)}") from None
        except (BrokenPipeError, ImportError, MemoryError):  # every other item would fail as well
            raise
        except Exception as error:
            if SHOW_TRACEBACK.get():
                raise
            # An error of no known kind may come from a decoder or a model that this one item is too much for
            what = sentence(error) if is_for_users(error) else f"{type(error).__name__}: {error}"
            fail(item, what)


def is_for_users(error: Exception) -> bool:
    """Tell whether the message of an error is all that a user needs, as for values, files, packages and networks."""
    if SHOW_TRACEBACK.get():
        return False
    if unwrapped(error) is not error:
        return True
    return isinstance(error, (ValueError, OSError, ImportError, *network_errors()))


def sentence(error: Exception) -> str:
    """Return the message of an error without the text that wrappers add."""
    error = unwrapped(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {os.fspath(error.filename)!r}"
    if isinstance(error, network_errors()) and not isinstance(error, OSError):
        return f"The network failed: {error} ({type(error).__name__})."
    return str(error) or type(error).__name__


def unwrapped(error: Exception) -> Exception:
    """Return the error inside the validation errors of huggingface_hub's dataclasses, or else the error itself."""
    while type(error).__name__.startswith("StrictDataclass") and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


@contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """Print what is said about damaged recordings as a sentence, once each; other warnings come as ever."""
    seen: set[str] = set()
    show_other = warnings.showwarning

    def show_sentence(message: Warning | str, category: type[Warning], *place: Any, **others: Any) -> None:
        if not issubclass(category, RecordingWarning):
            show_other(message, category, *place, **others)
        elif str(message) not in seen:
            seen.add(str(message))
            report(str(message), "warning")

    with warnings.catch_warnings():
        warnings.simplefilter("always", RecordingWarning)
        warnings.showwarning = show_sentence
        yield


def report(message: str, kind: str = "error") -> None:
    """Print a message to stderr, an error or a warning."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
    console.print(f"{kind}: ", style="bold red" if kind == "error" else "bold yellow", end="")
    console.print(message.translate(CONTROL_IN_LINES))


def note(message: str) -> None:
    """Print a remark to stderr, where it is not mixed with results."""
    show(message, sys.stderr)


def _with_progress_bar(items: Sequence[Item], what: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, what, console=console, transient=True, disable=not console.is_terminal)
