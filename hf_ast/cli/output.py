"""Results of commands, printed as soon as they are known, as text or as JSON."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from hf_ast.text import CONTROL_IN_LINES, visible


def show(line: str, stream: TextIO | None = None) -> None:
    """Print a line to a stream, or to stdout if None, so that a reader of a pipe gets it at once.

    Files and pipes get the line as it is; in a terminal, control characters are escaped.
    """
    target = sys.stdout if stream is None else stream
    print(line.translate(CONTROL_IN_LINES) if target.isatty() else line, file=target, flush=True)


def show_result(as_json: bool, data: Any, lines: Iterable[str]) -> None:
    """Print the only result of a command."""
    for line in [json.dumps(data, indent=2, allow_nan=False)] if as_json else lines:
        show(line)


@contextmanager
def results(as_json: bool, stream: TextIO | None = None) -> Iterator[Callable[[Any, Iterable[str]], None]]:
    """Print several results, one after the other, to a stream; to stdout if None.

    The block gets a function that prints a result, given as data for JSON and as lines of text. With `as_json`, the
    results are the elements of an array, one per line, which is valid JSON even if an exception ends the block.
    """
    separator = "\n"

    def add(data: Any, lines: Iterable[str]) -> None:
        nonlocal separator
        if as_json:
            print(f"{separator}  {json.dumps(data, allow_nan=False)}", end="", file=stream, flush=True)
            separator = ",\n"
        else:
            for line in lines:
                show(line, stream)

    if as_json:
        print("[", end="", file=stream, flush=True)
    try:
        yield add
    finally:
        if as_json:
            show("\n]", stream)


def show_table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print a table. In a terminal, long values are folded; elsewhere, every row is one line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(header), header_style="bold")
    for number in range(len(rows[0])):
        # The first column holds names, which must not be broken
        table.add_column(header[number] if header else "", overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*map(Text, map(visible, row)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        show(line.rstrip())
