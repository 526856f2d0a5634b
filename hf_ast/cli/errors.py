"""What becomes of errors: a sentence for those that are meant for people, and a traceback for all others."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

Item = TypeVar("Item")

INTERRUPTED, CLOSED_PIPE = 130, 141  # as a shell reports programs that SIGINT and SIGPIPE end


class Commands(TyperGroup):
    """Commands whose errors are reported as sentences."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            note(f"interrupted{interrupt}")
            raise typer.Exit(INTERRUPTED) from interrupt
        except BrokenPipeError as closed:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails when it flushes
            raise typer.Exit(CLOSED_PIPE) from closed
        except Exception as error:
            if ctx.params.get("traceback") or not is_for_people(error):
                raise
            report(sentence(error))
            raise typer.Exit(1) from error


def for_each(
    items: Sequence[Item],
    work: Callable[[Item], None],
    *,
    name: Callable[[Item], str] = str,
    progress: str | None = None,
) -> bool:
    """Work on one after the other, whatever becomes of the others.

    Args:
        items: What to work on.
        work: Raises an error where something cannot be done, which is reported.
        name: Of an item, for the report.
        progress: What a progress bar calls the work. Work that prints its results needs none.

    Returns:
        Whether all could be done.

    Raises:
        KeyboardInterrupt: Its message says how many were done.
    """
    num_failed = 0
    for number, item in enumerate(items if progress is None else _with_progress_bar(items, progress)):
        try:
            work(item)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f" after {number} of {len(items)}") from None
        except (BrokenPipeError, ImportError):  # which the other items would meet as well
            raise
        except Exception as error:
            if not is_for_people(error):
                raise
            report(f"{name(item)}: {sentence(error)}")
            num_failed += 1
    return num_failed == 0


def is_for_people(error: Exception) -> bool:
    """Whether the message of an error says all: of wrong values, and of what files and networks refuse."""
    if unwrapped(error) is not error:
        return True
    return isinstance(error, (ValueError, OSError, ImportError, *_network_errors()))


def sentence(error: Exception) -> str:
    """The message of an error, without what its wrappers add."""
    error = unwrapped(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {os.fspath(error.filename)!r}"
    if isinstance(error, _network_errors()) and not isinstance(error, OSError):
        return f"The network failed: {error} ({type(error).__name__})."
    return str(error) or type(error).__name__


def unwrapped(error: Exception) -> Exception:
    """The error that a validation of huggingface_hub's dataclasses wraps, or the error itself."""
    while type(error).__name__.startswith("StrictDataclass") and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def report(message: str) -> None:
    """Write an error to stderr."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("error: ", style="bold red", end="")
    console.print(message, markup=False)


def note(message: str) -> None:
    """Write what is no result to stderr."""
    print(message, file=sys.stderr, flush=True)


def _with_progress_bar(items: Sequence[Item], what: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, what, console=console, transient=True, disable=not console.is_terminal)


def _network_errors() -> tuple[type[Exception], ...]:
    """The errors of httpx2, which nothing can have raised that has not imported it."""
    return (sys.modules["httpx2"].HTTPError,) if "httpx2" in sys.modules else ()
