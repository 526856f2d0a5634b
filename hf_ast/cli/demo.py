"""`hf-ast demo`."""

from typing import Annotated

import typer

from .errors import note
from .options import DEFAULT_MODEL, BatchOptions, Model, quiet_loading, with_options
from .output import show


@with_options
def demo(
    options: BatchOptions,
    model: Model = DEFAULT_MODEL,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address on which to listen.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port on which to listen.", show_default="the first free one from 7860 on"
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in a browser.")] = True,
) -> None:
    """Open a page on which to try models on recordings, until Ctrl-C.

    Drop or record a sound, choose a model, and see its labels, events, spectrogram, timeline, and where the model
    looks. Everything stays on this machine. Prints the address of the page.

    Needs the extra `demo`: `pip install "hf-ast[demo]"`.
    """
    from hf_ast.demo import launch

    quiet_loading()
    page = launch(model, host=host, port=port, open_browser=open_browser, **options.settings())
    show(page.local_url)
    note("press Ctrl-C to stop")
    page.block_thread()
