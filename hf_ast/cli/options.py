"""Options and arguments that several commands have."""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.choices import DType

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_ast.inference.features import FeatureExtractor
    from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor


def positive(value: float | None) -> float | None:
    """Check that a value is greater than zero and finite."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value} is not a positive number.")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
# With `DEFAULT_MODEL` as default
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        show_default="the embedded keyword model",
        help="Id on the Hub, folder, or any name of a released checkpoint (`hf-ast checkpoints` lists them).",
    ),
]
DEFAULT_MODEL = str(EMBEDDED_MODEL)
# Options of models that `load_classifier` and the like take
LOADING = ("revision", "token", "device", "dtype")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `hf-ast convert` made.")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Folder of official files.", show_default="$HF_HOME/hf_ast"),
]
Window = Annotated[
    float | None,
    typer.Option(
        "--window",
        metavar="SECONDS",
        callback=positive,
        help="Length of a window.",
        show_default="what the model hears at once",
    ),
]
Hop = Annotated[
    float | None,
    typer.Option(
        "--hop",
        metavar="SECONDS",
        callback=positive,
        help="Time between the starts of two windows.",
        show_default="one window",
    ),
]


def quiet_loading() -> None:
    """Hide the progress bars of transformers for loading, which takes a second, but not those of downloads."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()


def usable(device: str | None) -> str | None:
    """Check that this machine has a device."""
    if device is not None:
        from hf_ast.inference.devices import find_device

        try:
            find_device(device)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return device


Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        callback=usable,
        help="Where the model and its front end run: cpu, cuda, cuda:1, mps, xpu, ...",
        show_default="the accelerator, if there is one",
    ),
]
Precision = Annotated[
    DType, typer.Option("--dtype", help="Precision of the model; front ends, scores and losses are in float32.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Inputs per forward pass.",
        show_default="few on a CPU, four times as many elsewhere",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="NAME",
        help="Branch, tag or commit of a model on the Hub.",
        show_default="its main branch",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Access token of the Hub, for private and gated models.",
        show_default="HF_TOKEN, or that of `hf auth login`",
    ),
]


# None stands for the defaults of `EventRule`, which `--help` does not load
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="SCORE|LABEL=SCORE",
        help="Score of a label above which there is an event; `LABEL=SCORE`, which may be repeated, is for one label.",
        show_default="0.5",
    ),
]
Release = Annotated[
    float | None,
    typer.Option(metavar="SCORE", help="Score above which an event lasts.", show_default="the threshold"),
]
Median = Annotated[
    float | None,
    typer.Option("--median", metavar="SECONDS", help="Length of a median filter.", show_default="none"),
]
Shortest = Annotated[
    float | None,
    typer.Option("--shortest", metavar="SECONDS", help="Length of the shortest event.", show_default="any"),
]
LongestGap = Annotated[
    float | None,
    typer.Option(
        "--gap",
        metavar="SECONDS",
        help="Length of the longest gap that is closed.",
        show_default="none",
    ),
]


def threshold_of(values: Sequence[str]) -> "float | dict[str, float]":
    """Return the threshold, or those of some labels, from the values of `--threshold`."""
    hint = "'--threshold'"
    scores: dict[str, float] = {}
    for value in values:
        label, equals, score = value.rpartition("=")
        if label in scores or (len(values) > 1 and not equals):
            raise typer.BadParameter("give one score, or LABEL=SCORE once for each label.", param_hint=hint)
        try:
            scores[label] = float(score)
        except ValueError:
            raise typer.BadParameter(f"{score!r} is not a number.", param_hint=hint) from None
        if not 0 <= scores[label] <= 1:
            raise typer.BadParameter(f"{score} is not in the range 0<=x<=1.", param_hint=hint)
    return scores if "=" in values[0] else scores[""]


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """Which version of a model on the Hub, and who asks for it."""

    revision: Revision = None
    token: Token = None

    def settings(self) -> dict[str, Any]:
        """The options as keywords of the functions of `hf_ast`."""
        return dataclasses.asdict(self)

    def loading(self) -> dict[str, Any]:
        """Those of them that functions which load a model take."""
        names = [field.name for field in dataclasses.fields(self) if field.name in LOADING]
        return {name: value for name, value in self.settings().items() if name in names}

    def classifier(self, model: str, **settings: Any) -> "tuple[PreTrainedModel, FeatureExtractor]":
        """Load a classifier as these options say, and with further settings of `load_classifier`."""
        from hf_ast.inference.loading import load_classifier

        quiet_loading()
        return load_classifier(model, **self.loading(), **settings)

    def encoder(self, model: str) -> "tuple[PreTrainedModel, SpectrogramFeatureExtractor]":
        """Load a model for embeddings, or for its front end, as these options say."""
        from hf_ast.inference.loading import load_encoder

        quiet_loading()
        return load_encoder(model, **self.loading())


@dataclass(frozen=True, kw_only=True)
class FrontEndOptions(HubOptions):
    """Also where it runs, for commands that run the front end of a model only."""

    device: Device = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(FrontEndOptions):
    """Also in which precision, for commands that run a model, or train one."""

    dtype: Precision = "float32"


@dataclass(frozen=True, kw_only=True)
class BatchOptions(ModelOptions):
    """Also how many inputs at a time."""

    batch_size: BatchSize = None


@dataclass(frozen=True, kw_only=True)
class EventOptions(BatchOptions):
    """Also how windows lie, and how their scores become events."""

    window: Window = None
    hop: Hop = None
    threshold: Threshold = None
    release: Release = None
    median: Median = None
    shortest: Shortest = None
    gap: LongestGap = None

    def tagging(self) -> dict[str, Any]:
        """The options as keywords of `hf_ast.tag`."""
        events: dict[str, Any] = {"median_s": self.median, "shortest_s": self.shortest, "longest_gap_s": self.gap}
        events |= {"threshold": threshold_of(self.threshold) if self.threshold else None, "release": self.release}
        given = {name: value for name, value in events.items() if value is not None}
        return {"window_s": self.window, "hop_s": self.hop, "batch_size": self.batch_size} | given


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its parameters that are dataclasses.

    The command line gets the fields of such a class, in the place of the parameter; the function gets them as one
    value.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            types = typing.get_type_hints(groups[name], include_extras=True)
            fields = [(field.name, types[field.name], field.default) for field in dataclasses.fields(groups[name])]
        else:
            fields = [(name, hints[name], parameter.default)]
        parameters += [
            inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for field, annotation, default in fields
        ]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        for name, group in groups.items():
            arguments[name] = group(**{field.name: arguments.pop(field.name) for field in dataclasses.fields(group)})
        command(**arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
