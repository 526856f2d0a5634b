"""Results on stdout, as soon as they are known: lines for people, or JSON."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO


def show(line: str, stream: TextIO | None = None) -> None:
    """Print a line to a stream, stdout if None; whoever reads it through a pipe gets it at once."""
    print(line, file=stream, flush=True)


def show_result(as_json: bool, data: Any, lines: Iterable[str]) -> None:
    """Print the one result of a command, as JSON or as lines."""
    for line in [json.dumps(data, indent=2)] if as_json else lines:
        show(line)


@contextmanager
def results(as_json: bool, stream: TextIO | None = None) -> Iterator[Callable[[Any, Iterable[str]], None]]:
    """Print several results, each when it is known: as a JSON array with one result per line, or as lines.

    The block gets a function of a result's data and its lines. Whatever ends the block, the array is valid JSON.
    """
    separator = "\n"

    def add(data: Any, lines: Iterable[str]) -> None:
        nonlocal separator
        if as_json:
            print(f"{separator}  {json.dumps(data)}", end="", file=stream, flush=True)
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
    """Print a table: folded to the width of a terminal, or one line per row where there is none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(header), header_style="bold")
    for number, _ in enumerate(rows[0]):
        table.add_column(header[number] if header else "", overflow="fold", no_wrap=number == 0)  # it is a name
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        show(line.rstrip())
