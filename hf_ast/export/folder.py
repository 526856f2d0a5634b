"""Exported models as folders: the file, its metadata, a loader that needs only its runtime, and a README."""

import json
import os
import string
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

import hf_ast
from hf_ast.choices import ExportFormat, ExportInput, expect_one_of
from hf_ast.inference.cells import check_frame_shift
from hf_ast.inference.features import FeatureExtractor
from hf_ast.inference.tagging import label_names
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modeling_common import SpectrogramForAudioFrameClassification
from hf_ast.whole import whole_folder

from .onnx_file import DEFAULT_OPSET, quantize_onnx, require, write_onnx
from .package import require_compiler, write_aoti, write_program
from .program import SOURCES, as_module, export_program, input_limits, pads_to_max_length
from .runtimes import OPENERS
from .verification import TOLERANCE, Verification, verify

METADATA = "metadata.json"
LOADER = "classify.py"


@dataclass(frozen=True)
class Target:
    """A kind of exported file.

    Args:
        file: Its name in the folder.
        runtime: Package that its loader needs besides numpy.
        versions: Packages whose versions the folder records.
        imports, opening: Lines of the loader: its imports, and the definition of `run`.
        limits: Limitations that the README states.
    """

    file: str
    runtime: str
    versions: tuple[str, ...]
    imports: str
    opening: str
    limits: str = ""


TARGETS = {
    "onnx": Target(
        "model.onnx",
        "onnxruntime",
        ("torch", "onnx", "onnxruntime"),
        "import onnxruntime",
        'SESSION = onnxruntime.InferenceSession(FOLDER / META["file"])\n'
        'run = lambda inputs: SESSION.run(None, {META["input_name"]: inputs})[0]',
    ),
    "torch-export": Target(
        "model.pt2",
        "torch",
        ("torch",),
        "import torch",
        'MODULE = torch.export.load(FOLDER / META["file"]).module()\n'
        "run = lambda inputs: MODULE(torch.from_numpy(inputs)).numpy(force=True)",
    ),
    "aoti": Target(
        "model.pt2",
        "torch",
        ("torch",),
        "import torch, torch._inductor",
        'MODULE = torch._inductor.aoti_load_package(str(FOLDER / META["file"]))\n'
        "run = lambda inputs: MODULE(torch.from_numpy(inputs)).numpy(force=True)",
        "- The file itself does not check the length of its input; `classify.py` does.\n"
        "- The file is compiled for the processor and the version of torch of the machine where it was made; export\n"
        "  the model again for others.\n",
    ),
}


@dataclass(frozen=True)
class Export:
    """Result of `export_model`: the folder, its metadata, the size of the file in bytes, and its verification."""

    folder: Path
    metadata: dict[str, Any]
    num_bytes: int
    verification: Verification


def export_model(
    model: PreTrainedModel,
    feature_extractor: FeatureExtractor,
    out: str | os.PathLike[str],
    *,
    to: ExportFormat = "onnx",
    source: ExportInput = "waveform",
    int8: bool = False,
    opset: int = DEFAULT_OPSET,
) -> Export:
    """Export a model that labels clips or cells of time into a new folder, and verify the file that was written.

    The folder holds the exported file, `metadata.json` (input, limits of its length, labels, activation),
    `classify.py` (a loader without `hf_ast`), and `README.md`. If something fails, there is no folder.

    Args:
        model: A classification model of AST, SSAST, PaSST or fPaSST, of clips or of frames. From one of frames, the
            file returns the logits of the cells; export `...ForAudioClassification` for those of clips.
        feature_extractor: Its feature extractor.
        out: Folder to create.
        to: "onnx", "torch-export" (for `torch.export.load`), or "aoti" (compiled by AOTInductor for this machine).
        source: What the file takes, "waveform" or "features"; see `export_program`.
        int8: Whether to quantise the linear layers to 8 bits; only for "onnx".
        opset: Version of the operator set, for "onnx".

    Raises:
        ValueError: The folder exists, an argument is unknown, the model is of another family, or the logits of the
            written file differ from those of the model by more than 1e-4 (the difference is only stated for `int8`).
        ImportError: A package is missing.
        OSError: The folder cannot be written.
    """
    folder = Path(out)
    if folder.exists():
        raise ValueError(f"out={str(out)!r} exists; give another folder, or remove it.")
    expect_one_of(ExportFormat, to=to)
    if int8 and to != "onnx":
        raise ValueError(f"int8=True needs to='onnx', not {to!r}: the quantiser is that of onnxruntime.")
    if to == "onnx":
        require("onnx", "onnxscript", "onnxruntime")
    elif to == "aoti":
        require_compiler()
    limits = input_limits(model, feature_extractor, source=source)
    extractor: Any = feature_extractor  # one of ours, or there would be no limits
    labels_cells = isinstance(model, SpectrogramForAudioFrameClassification)
    reference = as_module(model, feature_extractor, source=source).model
    program = export_program(model, feature_extractor, source=source)
    with whole_folder(folder) as partial:
        file = partial / TARGETS[to].file
        if to == "onnx":
            _write_onnx(program, file, source, int8, opset)
        else:
            (write_program if to == "torch-export" else write_aoti)(program, file)
        proof = verify(OPENERS[to](file), reference, feature_extractor, limits, source=source)
        if proof.largest_difference > TOLERANCE and not int8:
            raise ValueError(
                f"The logits of the exported file differ from those of the model by {proof.largest_difference:.2g}, "
                f"more than {TOLERANCE:.0e}; nothing was written to {os.fspath(out)!r}. Please report this."
            )
        metadata: dict[str, Any] = {
            "format": to,
            "file": file.name,
            "input": source,
            "input_name": SOURCES[source],
            "sampling_rate": feature_extractor.sampling_rate,
            "num_mel_bins": model.config.num_mel_bins,
            "min_length": limits.shortest,
            "max_length": limits.longest,
            "pads_short_clips": source == "waveform" and pads_to_max_length(extractor),
            "activation": "sigmoid" if labels_cells else activation(model.config.problem_type),
            "labels": label_names(model),
            "int8": int8,
            "opset": opset if to == "onnx" else None,
            "verification": proof._asdict(),
            "versions": {"hf_ast": hf_ast.__version__} | {name: version(name) for name in TARGETS[to].versions},
        } | (cell_times(model, extractor, source) if labels_cells else {})
        (partial / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        for name in (LOADER, "README.md"):
            (partial / name).write_text(render(name, metadata), encoding="utf-8")
        num_bytes = sum(path.stat().st_size for path in partial.iterdir() if path.name.startswith(file.name))
    return Export(folder, metadata, num_bytes, proof)


def render(name: str, metadata: dict[str, Any]) -> str:
    """Fill in the loader or the README of an export."""
    target, proof = TARGETS[metadata["format"]], metadata["verification"]
    from_waveform, labels_cells = metadata["input"] == "waveform", "cell_s" in metadata
    shape = "(samples,)" if from_waveform else f"(frames, {metadata['num_mel_bins']})"
    values = metadata | {
        "imports": target.imports,
        "open": target.opening,
        "runtime": target.runtime,
        "limits": target.limits,
        "shape": shape,
        "short": "; the loader continues a shorter clip with zeros" if metadata["pads_short_clips"] else "",
        "input_shape": f"(batch, {shape[1:].replace(',)', ')')}",
        "padding": (
            f"Samples are mono, in [-1, 1], at {metadata['sampling_rate']} Hz; the clips of a batch are equally long."
            if from_waveform
            else "These are the normalised log-mel spectrograms of the model's feature extractor, without a mask."
        ),
        "unit": "samples" if from_waveform else "frames",
        "function": "cells" if labels_cells else "classify",
        "output_shape": "(cells, labels)" if labels_cells else "(labels,)",
        "outputs": f"(batch, {'cells, ' if labels_cells else ''}{len(metadata['labels'])})",
        "cells": cells_sentence(metadata) if labels_cells else "",
        "title": f"An audio classification model for {target.runtime}" + (", int8" if metadata["int8"] else ""),
        "num_clips": proof["num_clips"],
        "difference": f"{proof['largest_difference']:.1e}",
        "largest_logit": f"{proof['largest_logit']:.1f}",
        "num_same_labels": proof["num_same_labels"],
        "version": metadata["versions"]["hf_ast"],
        "versions": ", ".join(f"{name} {value}" for name, value in metadata["versions"].items() if name != "hf_ast"),
    }
    folder = files(__package__) / "loader"
    scoring = (folder / ("cells.txt" if labels_cells else "clips.txt")).read_text(encoding="utf-8")
    template = (folder / f"{name}.txt").read_text(encoding="utf-8").replace("$scoring", scoring)
    return string.Template(template).substitute(values)


def cells_sentence(metadata: dict[str, Any]) -> str:
    """What the README says about cells."""
    if metadata["cell_s"] is None:
        length = "the length of the clip divided by their number"
    else:
        length = f"{metadata['cell_s']:.4g} s, the first one {metadata['first_cell_s']:.4g} s"
    return (
        f"- Cells are consecutive stretches of time. Each lasts {length}; the last one ends with the clip.\n"
        "  `cells` in `classify.py` returns their times and scores, without those beyond the end of a short clip.\n"
    )


def cell_times(model: PreTrainedModel, extractor: SpectrogramFeatureExtractor, source: str) -> dict[str, Any]:
    """When the cells of an exported model are, for its metadata, in seconds.

    `unit_s` is the length of a sample or frame of the input, `first_cell_s` that of the first cell, and `cell_s` that
    of the others; None where a clip of any length has as many cells.

    Raises:
        ValueError: The config has another distance between frames than the feature extractor.
    """
    config: Any = model.config
    check_frame_shift(config, extractor)
    frame_shift_s = extractor.frame_shift / extractor.sampling_rate
    stretches = config.num_cells is not None and source == "features"
    return {
        "unit_s": 1 / extractor.sampling_rate if source == "waveform" else frame_shift_s,
        "cell_s": None if stretches else config.cell_s,
        "first_cell_s": None if stretches else config.first_centre_s(extractor.first_frame_s) + config.cell_s / 2,
    }


def activation(problem_type: str | None) -> str:
    """Name of the function from logits to scores, as `hf_ast.inference.tagging.apply_activation` chooses it."""
    return {"multi_label_classification": "sigmoid", "regression": "none"}.get(problem_type or "", "softmax")


def _write_onnx(program: Any, file: Path, source: ExportInput, int8: bool, opset: int) -> None:
    """Write the float32 file or, with `int8`, only the int8 one."""
    if not int8:
        write_onnx(program, file, input_name=SOURCES[source], opset=opset)
        return
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        whole = Path(folder) / file.name
        write_onnx(program, whole, input_name=SOURCES[source], opset=opset)
        quantize_onnx(whole, file)
