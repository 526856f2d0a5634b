"""ONNX files: written from exported programs, and quantised to 8 bits."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch.export import ExportedProgram

# The lowest one that torch exports, which most runtimes support
DEFAULT_OPSET = 18
OUTPUT_NAME = "logits"
# Weights above this size are stored beside the file, because a protocol buffer holds at most 2 GB
MAX_BYTES_INSIDE = 1_900_000_000
# Key under which torch's exporter notes the module that a node comes from
SCOPES = "pkg.torch.onnx.name_scopes"
# Prefix of the names of the front end's nodes
FRONT_END = "front_end"


def write_onnx(program: ExportedProgram, path: Path, *, input_name: str, opset: int = DEFAULT_OPSET) -> None:
    """Write a program of `export_program` as an ONNX file with dynamic batch size and length.

    The names of the nodes that compute the spectrogram begin with "front_end".

    Args:
        program: The program.
        path: File to write; weights above 1.9 GB are written beside it.
        input_name: Name of the input. The output is `logits`.
        opset: Version of the operator set, at least 18.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: The exporter does not support the operator set.
    """
    require("onnx", "onnxscript")
    if opset < DEFAULT_OPSET:
        raise ValueError(f"opset={opset} must be at least {DEFAULT_OPSET}, the lowest one that torch exports.")
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # about torchvision
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        input_names=[input_name],
        output_names=[OUTPUT_NAME],
        opset_version=opset,
        verbose=False,
    )
    model = cast("Any", onnx_program).model
    for number, node in enumerate(model.graph):
        scopes = node.metadata_props.get(SCOPES, "")
        part = FRONT_END if f"'{FRONT_END}" in scopes else "model"
        node.name = f"{part}_{node.op_type}_{number}"
        node.metadata_props.clear()  # source lines, which are an eighth of the file of a small model
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    num_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    cast("Any", onnx_program).save(path, external_data=num_bytes > MAX_BYTES_INSIDE)


def quantize_onnx(source: Path, path: Path) -> None:
    """Quantise an ONNX file of `write_onnx` to 8 bits with the quantiser of onnxruntime.

    The weights of linear layers become int8, with one scale for each output channel, and their inputs are quantised
    dynamically. The front end, the patch embedding and the attention itself stay float32.

    Args:
        source: The float32 file.
        path: File to write.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(source)
    # onnxscript 0.6 leaves shapes from before it folded constants, which the quantiser refuses; it infers them itself
    del model.graph.value_info[:]
    # Otherwise it warns that the file is not pre-processed; torch has folded the constants and inferred the shapes
    add_pre_process_metadata(model)
    quantize_dynamic(
        model,
        path,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=[node.name for node in model.graph.node if node.name.startswith(FRONT_END)],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


def require(*packages: str) -> None:
    """Raise an ImportError that says how to install them if packages are missing."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ImportError(f'ONNX files need {" and ".join(missing)}: pip install "hf-ast[export]".')
