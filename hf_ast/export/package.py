"""Exported programs as PyTorch packages: as they are, or compiled by AOTInductor."""

import io
from pathlib import Path

import torch
from torch._inductor import aoti_compile_and_package
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.export import ExportedProgram


def write_program(program: ExportedProgram, path: Path) -> None:
    """Save a program of `export_program` for `torch.export.load`."""
    # Into memory first: torch's writer of files aborts the process where the disk is full
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getbuffer())


def write_aoti(program: ExportedProgram, path: Path) -> None:
    """Compile a program of `export_program` for the processor of this machine and this version of torch.

    Args:
        program: The program.
        path: File to write, which ends in ".pt2"; `torch._inductor.aoti_load_package` loads it.

    Raises:
        ValueError: There is no C++ compiler.
    """
    require_compiler()
    buffer = io.BytesIO()  # as in `write_program`
    aoti_compile_and_package(program, package_path=buffer)
    path.write_bytes(buffer.getbuffer())


def require_compiler() -> None:
    """Raise a ValueError that says how to install one if there is no C++ compiler."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "AOTInductor compiles C++, but there is no compiler; install one (Debian: `apt install g++`), name it in "
            "the environment variable CXX, or export to 'onnx' or 'torch-export'."
        ) from error
