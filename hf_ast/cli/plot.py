"""`hf-ast plot`: one command per kind of picture."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ast.whole import whole_file

from .errors import note
from .files import Recordings, expand_arguments
from .options import (
    DEFAULT_MODEL,
    BatchOptions,
    EventOptions,
    FrontEndOptions,
    Json,
    Model,
    ModelOptions,
    positive,
    quiet_loading,
    with_options,
)
from .output import show_result

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor

    from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

plot = typer.Typer(name="plot", no_args_is_help=True, help="Draw pictures of recordings, models and training runs.")

SUFFIXES = (".png", ".pdf", ".svg")
DOTS_PER_INCH = 150
# The metrics in the output folder of fine-tuning
METRICS = "metrics.json"


def new_picture(out: Path) -> Path:
    """Check, before the work, that a picture can be written there."""
    if out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"{out} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    if out.exists():
        raise typer.BadParameter(f"{out} exists; give another name, or remove it.")
    return out


Recording = Annotated[str, typer.Argument(metavar="FILE", help="Recording: a file or URL.", show_default=False)]
Out = Annotated[
    Path,
    typer.Option("--out", metavar="FILE", callback=new_picture, help="Picture to create: .png, .pdf or .svg."),
]
Start = Annotated[
    float, typer.Option("--start", metavar="SECONDS", min=0, help="Where in the recording the picture begins.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the random draw.")]
Result = Annotated[
    Path,
    typer.Argument(
        metavar="RESULT",
        help="What `hf-ast evaluate --json` prints, as a file; or the output folder of `hf-ast finetune`.",
        show_default=False,
    ),
]


@plot.command()
@with_options
def spectrogram(
    file: Recording,
    out: Out,
    options: FrontEndOptions,
    model: Model = DEFAULT_MODEL,
    start: Start = 0.0,
    duration: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", callback=positive, help="Length of the picture.", show_default="to the end"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw the log-mel spectrogram of a recording of any length, as the front end of a model makes it."""
    from hf_ast import audio
    from hf_ast.plotting import plot_spectrogram

    encoder, feature_extractor = options.encoder(model)
    rate = feature_extractor.sampling_rate
    waveform, _ = audio.read(file, rate, start_s=start, duration_s=duration)
    values = feature_extractor(
        waveform, rate, return_tensors="pt", padding=False, truncation=False, device=encoder.device
    )["input_values"]
    write(plot_spectrogram(feature_extractor, values, start_s=start), out, as_json)


@plot.command()
@with_options
def timeline(
    file: Recording,
    out: Out,
    options: EventOptions,
    model: Model = DEFAULT_MODEL,
    max_labels: Annotated[int, typer.Option(min=1, help="Largest number of rows in the picture.")] = 15,
    as_json: Json = False,
) -> None:
    """Draw when something is heard in a recording: scores over time, and the events of `hf-ast tag`."""
    import hf_ast
    from hf_ast.plotting import plot_timeline

    settings = options.tagging()
    classifier, feature_extractor = options.classifier(model, frames=True)
    tagging = hf_ast.tag(classifier, feature_extractor, file, **settings, progress=sys.stderr.isatty())
    write(plot_timeline(tagging, max_labels=max_labels), out, as_json)


@plot.command()
@with_options
def attention(
    file: Recording,
    out: Out,
    options: ModelOptions,
    model: Model = DEFAULT_MODEL,
    start: Start = 0.0,
    as_json: Json = False,
) -> None:
    """Draw where in a spectrogram a model looks, by attention rollout.

    The picture shows one input of the model, padded as the model pads it.
    """
    from hf_ast.plotting import plot_attention

    encoder, feature_extractor = options.encoder(model)
    values, duration_s = read_input(file, feature_extractor, start, padded=True, device=encoder.device)
    figure = plot_attention(encoder, feature_extractor, values, start_s=start, duration_s=duration_s)
    write(figure, out, as_json)


@plot.command()
@with_options
def reconstruction(
    file: Recording,
    out: Out,
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Pretrained SSAST: folder, id on the Hub, or any name of a released checkpoint.",
            show_default=False,
        ),
    ],
    options: ModelOptions,
    start: Start = 0.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw a spectrogram, what an SSAST sees of it in pretraining, and its reconstruction of the rest."""
    import torch

    from hf_ast.inference.loading import load_pretraining
    from hf_ast.plotting import plot_reconstruction

    quiet_loading()
    network, feature_extractor = load_pretraining(model, **options.loading())
    values, _ = read_input(file, feature_extractor, start, padded=False, device=network.device)
    generator = torch.Generator().manual_seed(seed)
    figure = plot_reconstruction(network, feature_extractor, values, start_s=start, generator=generator)
    write(figure, out, as_json)


@plot.command()
@with_options
def patchout(
    file: Recording,
    out: Out,
    options: FrontEndOptions,
    model: Model = DEFAULT_MODEL,
    columns: Annotated[
        int | None,
        typer.Option("--time-patchout", min=0, help="Columns of patches to drop.", show_default="the model's"),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option("--frequency-patchout", min=0, help="Rows of patches to drop.", show_default="the model's"),
    ] = None,
    single: Annotated[
        int | None,
        typer.Option("--unstructured-patchout", min=0, help="Single patches to drop.", show_default="the model's"),
    ] = None,
    start: Start = 0.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw what patchout leaves of a spectrogram in training."""
    import torch

    from hf_ast.plotting import plot_patchout

    encoder, feature_extractor = options.encoder(model)
    config: Any = encoder.config
    numbers = {"time_patchout": columns, "frequency_patchout": rows, "unstructured_patchout": single}
    for name, number in numbers.items():
        if number is not None:
            setattr(config, name, number)
    values, _ = read_input(file, feature_extractor, start, padded=False, device=encoder.device)
    generator = torch.Generator().manual_seed(seed)
    write(plot_patchout(config, feature_extractor, values, start_s=start, generator=generator), out, as_json)


@plot.command()
@with_options
def similarity(
    files: Recordings,
    out: Out,
    options: BatchOptions,
    model: Model = DEFAULT_MODEL,
    keep_order: Annotated[
        bool, typer.Option("--keep-order", help="Keep the order of the files, instead of grouping similar ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Draw how alike the embeddings of recordings are.

    A recording that cannot be read is named and left out; with `--json`, it is in `failed`.
    """
    import torch

    import hf_ast
    from hf_ast.plotting import plot_similarity

    from .errors import for_each

    found = expand_arguments(files)
    if not found.files:
        raise typer.Exit(1)
    encoder, feature_extractor = options.encoder(model)
    embeddings: dict[str, Tensor] = {}

    def embed(file: str) -> None:
        waveform, _ = hf_ast.audio.read(file, feature_extractor.sampling_rate)
        embeddings[file] = hf_ast.scene_embeddings(
            encoder, feature_extractor, waveform, batch_size=options.batch_size
        )[0]

    for_each(found.files, embed, found.fail, progress="Embedding")
    if embeddings:
        figure = plot_similarity(torch.stack(list(embeddings.values())), list(embeddings), keep_order=keep_order)
        write(figure, out, as_json, failed=found.failed())
    if found.failures:
        raise typer.Exit(1)


@plot.command()
def confusion(result: Result, out: Out, as_json: Json = False) -> None:
    """Draw the confusion matrix of a classifier."""
    from hf_ast.plotting.confusion import confusion_from_rows, plot_confusion

    data = read_result(result)
    if data.get("confusion") is None:
        raise ValueError(
            f"{result} has no confusion matrix. For multi-label data, use `hf-ast plot average-precision`; for a file "
            "of an older version, evaluate again."
        )
    labels, counts = confusion_from_rows(data["confusion"], [row["label"] for row in data["classes"]])
    write(plot_confusion(counts, labels), out, as_json)


@plot.command("average-precision")
def average_precision(result: Result, out: Out, as_json: Json = False) -> None:
    """Draw the average precision of each class."""
    import numpy as np

    from hf_ast.plotting import plot_average_precision

    classes = read_result(result)["classes"]
    if any("average_precision" not in row for row in classes):
        raise ValueError(f"{result} holds measures of events; `hf-ast evaluate --figure` draws the events themselves.")
    precision = np.array([row["average_precision"] for row in classes], dtype=np.float64)  # None becomes NaN
    num_recordings = np.array([row["num_recordings"] for row in classes])
    write(plot_average_precision(precision, num_recordings, [row["label"] for row in classes]), out, as_json)


@plot.command("learning-curves")
def learning_curves(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Output folder of `hf-ast finetune` or `hf-ast pretrain`, during training or after it.",
            show_default=False,
        ),
    ],
    out: Out,
    as_json: Json = False,
) -> None:
    """Draw the losses, metrics and learning rate of a training run over its steps."""
    from hf_ast.plotting.learning_curves import learning_curves, plot_learning_curves

    write(plot_learning_curves(learning_curves(run)), out, as_json)


def read_input(
    file: str,
    feature_extractor: "SpectrogramFeatureExtractor",
    start_s: float,
    *,
    padded: bool,
    device: "torch.device | None" = None,
) -> "tuple[Tensor, float]":
    """Read from a recording what a model hears at once, and say so if that is not all of it.

    Returns:
        Model input, shape (1, T, M), padded to the model's length or only to a patch; and the seconds that were read.
    """
    from hf_ast.data import audio

    rate, longest = feature_extractor.sampling_rate, feature_extractor.max_samples
    waveform = audio.read(file, rate, start_s=start_s, duration_s=(longest + 1) / rate)[0]
    if len(waveform) > longest:
        note(f"showing {longest / rate:.4g} s, what the model hears at once; --start chooses which")
        waveform = waveform[:longest]
    settings: dict[str, Any] = {} if padded else {"padding": "longest"}
    values = feature_extractor(waveform, rate, return_tensors="pt", device=device, **settings)["input_values"]
    return values, len(waveform) / rate


def read_result(path: Path) -> dict[str, Any]:
    """Read the result of an evaluation, from its file or the folder of a fine-tuned model."""
    file = path / METRICS if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is not JSON, but must be what `hf-ast evaluate --json` prints.") from error
    if not isinstance(data, dict) or "classes" not in data:
        raise ValueError(f"{file} has no 'classes', but must be what `hf-ast evaluate --json` prints.")
    return data


def write(figure: "Figure", out: Path, as_json: bool, **more: Any) -> None:
    """Write a figure, completely or not at all, and print its path, in JSON with whatever else is to be said."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial:
        figure.savefig(partial, dpi=DOTS_PER_INCH, format=out.suffix[1:].lower())
    show_result(as_json, {"out": str(out)} | more, [str(out)])
