"""`hf-ast listen`."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ast.text import visible

from .errors import note
from .options import DEFAULT_MODEL, EventOptions, Json, Model, positive, with_options
from .output import results

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from hf_ast import Event, StreamTagger
    from hf_ast.inference.streaming import StreamWindow

BAR_WIDTH = 40


@with_options
def listen(
    options: EventOptions,
    model: Model = DEFAULT_MODEL,
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels, the most probable first.")] = 5,
    duration: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", callback=positive, help="How long to listen.", show_default="until Ctrl-C"),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--microphone",
            metavar="NAME",
            help="Number or part of the name of a microphone.",
            show_default="the default of the system",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Label what the microphone hears, live, until Ctrl-C.

    In a terminal, a bar per label shows its score in the last window. Elsewhere, there is one line per window. Between
    them are the events of `hf-ast tag`, each when no later sound can change it: about a window after its end.

    With `--json`, the result is an array with one object per window: `start_s`, `end_s`, and `labels`, each with
    `label` and `score`; and one per event: `event` with `label`, `start_s`, `end_s` and `peak`. Needs the extra
    `live`: `pip install "hf-ast[live]"`.
    """
    import hf_ast
    from hf_ast.inference.microphone import microphone

    settings = options.tagging()
    classifier, feature_extractor = options.classifier(model, frames=True)
    tagger = hf_ast.StreamTagger(classifier, feature_extractor, **settings)
    number = int(source) if source is not None and source.isdecimal() else source
    note(f"listening: a result every {tagger.hop_s:.4g} s; press Ctrl-C to stop")
    with ExitStack() as stack:
        if not as_json and sys.stdout.isatty():
            from rich.live import Live

            live = stack.enter_context(Live(refresh_per_second=10))
            for found in heard(tagger, microphone(tagger.sampling_rate, device=number, duration_s=duration)):
                if isinstance(found, hf_ast.Event):
                    live.console.print(as_line(found, top_k), markup=False, highlight=False)
                else:
                    live.update(bars(found, top_k))
        else:
            add = stack.enter_context(results(as_json))
            for found in heard(tagger, microphone(tagger.sampling_rate, device=number, duration_s=duration)):
                add(as_data(found, top_k), [as_line(found, top_k)])


def heard(tagger: "StreamTagger", pieces: "Iterable[np.ndarray]") -> "Iterator[StreamWindow | Event]":
    """Yield the windows and events of a stream as they are known; Ctrl-C ends the stream, and the last ones follow."""
    try:
        for samples in pieces:
            yield from tagger.push(samples)
            yield from tagger.new_events()
    except KeyboardInterrupt:
        note("stopped")
    yield from tagger.flush()
    yield from tagger.new_events()


def bars(window: "StreamWindow", top_k: int) -> "Table":
    """Draw the scores of a window."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.title = f"{window.start_s:.1f} - {window.end_s:.1f} s"
    for label, score in window.top(top_k):
        table.add_row(Text(visible(label)), ProgressBar(total=1.0, completed=score, width=BAR_WIDTH), f"{score:.1%}")
    return table


def as_line(window: "StreamWindow | Event", top_k: int) -> str:
    """Format the times and labels of a window, or an event."""
    from hf_ast.inference.streaming import StreamWindow

    if not isinstance(window, StreamWindow):
        return f"{window.start_s:6.1f} - {window.end_s:6.1f} s  event: {visible(window.label)} {window.peak:.1%}"
    tags = "  ".join(f"{visible(label)} {score:.1%}" for label, score in window.top(top_k))
    return f"{window.start_s:6.1f} - {window.end_s:6.1f} s  {tags}"


def as_data(window: "StreamWindow | Event", top_k: int) -> dict[str, Any]:
    """Return them as data for JSON."""
    from hf_ast.inference.streaming import StreamWindow

    if not isinstance(window, StreamWindow):
        return {"event": window._asdict()}
    labels = [{"label": label, "score": score} for label, score in window.top(top_k)]
    return {"start_s": window.start_s, "end_s": window.end_s, "labels": labels}
