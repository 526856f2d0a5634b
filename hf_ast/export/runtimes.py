"""Exported files as functions, each with its own runtime."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .onnx_file import require

Runner = Callable[[Tensor], Tensor]


def open_onnx(path: Path, *, num_threads: int = 0) -> Runner:
    """Open an ONNX file of `write_onnx` with onnxruntime, on the CPU.

    Args:
        path: The file.
        num_threads: Number of threads; 0 leaves the choice to onnxruntime.

    Returns:
        A function from an input to logits.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (argument,) = session.get_inputs()
    return lambda inputs: torch.from_numpy(session.run(None, {argument.name: inputs.numpy()})[0])


def open_program(path: Path) -> Runner:
    """Open a file of `write_program`."""
    return torch.export.load(path).module()


def open_aoti(path: Path) -> Runner:
    """Open a file of `write_aoti`."""
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))


OPENERS: dict[str, Callable[[Path], Runner]] = {
    "onnx": open_onnx,
    "torch-export": open_program,
    "aoti": open_aoti,
}
