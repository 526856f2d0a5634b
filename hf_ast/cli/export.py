"""`hf-ast export`."""

from pathlib import Path
from typing import Annotated

import typer

from hf_ast.choices import ExportFormat, ExportInput

from .errors import note
from .options import DEFAULT_MODEL, HubOptions, Json, with_options
from .output import show_result


@with_options
def export(
    to: Annotated[
        ExportFormat,
        typer.Option(
            "--to",
            help="An ONNX file, a program for `torch.export.load`, or one that AOTInductor compiles for this machine.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to create.")],
    options: HubOptions,
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]",
            show_default="the embedded keyword model",
            help="Id on the Hub, folder, or any name of a released checkpoint (`hf-ast checkpoints` lists them).",
        ),
    ] = DEFAULT_MODEL,
    source: Annotated[
        ExportInput,
        typer.Option("--from", help="What the file takes: waveforms, or spectrograms of the feature extractor."),
    ] = "waveform",
    int8: Annotated[
        bool, typer.Option("--int8", help="With --to onnx: quantise the linear layers to 8 bits.")
    ] = False,
    opset: Annotated[
        int | None,
        typer.Option(metavar="N", min=18, help="With --to onnx: version of the operator set.", show_default="18"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a model that labels clips, or cells of time, into a folder that runs without hf_ast.

    The folder holds the file, `metadata.json` (labels, sampling rate, longest input), `classify.py`, which needs only
    numpy and the runtime of the file (onnxruntime or torch), and `README.md`. The written file is compared with the
    model on random clips of several lengths and batch sizes; if the logits differ by more than 1e-4, the folder is not
    created. With `--int8`, the difference is only reported.

    Prints the path of the folder; with `--json`, an object with `folder`, `num_bytes`, and what `metadata.json` holds.
    """
    if to != "onnx" and (int8 or opset is not None):
        raise typer.BadParameter("--int8 and --opset can only be used with --to onnx.")
    if out.exists():
        raise typer.BadParameter(f"{out} exists; give another name, or remove it.", param_hint="--out")
    from hf_ast.export.folder import export_model
    from hf_ast.export.onnx_file import DEFAULT_OPSET

    classifier, feature_extractor = options.classifier(model, frames=True)
    result = export_model(
        classifier,
        feature_extractor,
        out,
        to=to,
        source=source,
        int8=int8,
        opset=DEFAULT_OPSET if opset is None else opset,
    )
    proof = result.verification
    note(
        f"{result.num_bytes / 1e6:.1f} MB; largest difference of the logits {proof.largest_difference:.1e} (largest "
        f"logit {proof.largest_logit:.1f}), same label for {proof.num_same_labels} of {proof.num_clips} random clips"
    )
    data = {"folder": str(out), "num_bytes": result.num_bytes} | result.metadata
    show_result(as_json, data, [str(out)])
