"""Exported programs as PyTorch packages: as they are, or compiled by AOTInductor."""

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch._inductor import aoti_compile_and_package
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.export import ExportedProgram


def write_program(program: ExportedProgram, path: Path) -> None:
    """Save a program of `export_program` for `torch.export.load`."""
    _write(path, lambda stream: torch.export.save(program, stream))


def write_aoti(program: ExportedProgram, path: Path) -> None:
    """Compile a program of `export_program` for the processor of this machine and this version of torch.

    Args:
        program: The program.
        path: File to write, which ends in ".pt2"; `torch._inductor.aoti_load_package` loads it.

    Raises:
        ValueError: There is no C++ compiler.
    """
    require_compiler()
    _write(path, lambda stream: aoti_compile_and_package(program, package_path=stream))


def _write(path: Path, save: Callable[[io.BytesIO], object]) -> None:
    """Write a file through memory: torch's own writer of files aborts the process where the disk is full."""
    stream = io.BytesIO()
    save(stream)
    path.write_bytes(stream.getbuffer())


def require_compiler() -> None:
    """Raise a ValueError that says how to install one if there is no C++ compiler."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "AOTInductor compiles C++, but there is no compiler; install one (Debian: `apt install g++`), name it in "
            "the environment variable CXX, or export to 'onnx' or 'torch-export'."
        ) from error
