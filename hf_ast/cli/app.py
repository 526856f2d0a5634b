"""The application: all commands under one name. Commands import torch and transformers only when they run.

A new command is a function in a file of its own, listed here under a heading of the help.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from .card import card
from .checkpoints import checkpoints
from .classify import classify
from .convert import convert
from .demo import demo
from .embed import embed
from .errors import SHOW_TRACEBACK, Commands
from .evaluate import evaluate
from .export import export
from .export_official import export_official
from .extract import extract
from .finetune import finetune
from .info import info
from .listen import listen
from .plot import plot
from .pretrain import pretrain
from .probe import probe
from .publish import publish
from .stats import stats
from .tag import tag
from .verify import verify

# Headings of the help, each with its commands and groups of commands
Groups = dict[str, tuple[Callable[..., None] | typer.Typer, ...]]
RECORDINGS: Groups = {"Recordings": (classify, tag, listen, embed, extract, plot, demo)}
TRAINING: Groups = {"Training": (probe, finetune, pretrain, evaluate, stats)}
CHECKPOINTS: Groups = {"Checkpoints": (checkpoints, info, convert, verify, card, export_official, publish)}
DEPLOYMENT: Groups = {"Deployment": (export,)}
ALL_COMMANDS: Groups = RECORDINGS | TRAINING | CHECKPOINTS | DEPLOYMENT
EXIT_STATUS = """\
Results go to stdout as soon as they are known, with `--json` as JSON; messages and progress go to stderr. Exit status:
0 if everything was done, 1 if something could not be done (the rest was), 2 if the arguments are wrong, 130 after
Ctrl-C, and 141 if the program that reads the output has ended.
"""


def run(arguments: Sequence[str] | None) -> int:
    """Run a command; arguments and result as in `hf_ast.cli.main`."""
    app = build(ALL_COMMANDS, "Audio spectrogram transformers: AST, SSAST and PaSST.")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for names that the terminal cannot show
    try:
        app(args=sys.argv[1:] if arguments is None else list(arguments), prog_name="hf-ast")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def build(commands: Groups, title: str, **settings: Any) -> typer.Typer:
    """Build a typer application from commands; a function's name is that of its command, a group has its own."""
    app = typer.Typer(
        cls=Commands,
        help=title,
        epilog=EXIT_STATUS,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )
    app.callback()(start)
    for heading, functions in commands.items():
        for function in functions:
            if isinstance(function, typer.Typer):
                app.add_typer(function, rich_help_panel=heading)
                continue
            app.command(function.__name__.replace("_", "-"), rich_help_panel=heading)(function)
    return app


def show_version(shown: bool) -> None:
    """Print the version and exit, if asked to."""
    if shown:
        from hf_ast import __version__

        print(f"hf-ast {__version__}")
        raise typer.Exit


def start(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of every error.")] = False,
) -> None:
    """Take the options that precede the command."""
    SHOW_TRACEBACK.set(traceback)
