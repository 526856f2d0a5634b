"""Packages of torch: exported programs as they are, and compiled by AOTInductor."""

import shutil
from pathlib import Path

import torch
from torch._inductor import aoti_compile_and_package
from torch.export import ExportedProgram


def write_program(program: ExportedProgram, path: Path) -> None:
    """Save a program of `export_program` for `torch.export.load`."""
    torch.export.save(program, path)


def write_aoti(program: ExportedProgram, path: Path) -> None:
    """Compile a program of `export_program` for the processor of this machine and this version of torch.

    Args:
        program: The program.
        path: File to write, which ends in ".pt2"; `torch._inductor.aoti_load_package` loads it.

    Raises:
        ValueError: There is no C++ compiler.
    """
    from torch._inductor import config
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        compiler = get_cpp_compiler()
    except Exception as error:  # torch has its own errors, which are not public
        raise _no_compiler() from error
    if shutil.which(compiler) is None:
        raise _no_compiler()
    with config.patch({"aot_inductor.output_path": ""}):
        aoti_compile_and_package(program, package_path=str(path))


def _no_compiler() -> ValueError:
    return ValueError(
        "AOTInductor compiles C++, but there is no compiler; install one (Debian: `apt install g++`), name it in the "
        "environment variable CXX, or take --to onnx or torch-export."
    )
