"""What can be chosen by name: one list for the functions and for the command line, without imports that take time."""

from typing import Any, Literal, get_args

DType = Literal["float32", "bfloat16", "float16"]  # precision of a model
EmbeddingMode = Literal["features", "logits", "all"]  # contents of an embedding
Extracted = Literal["tags", "embeddings", "both"]
ExtractedRows = Literal["files", "windows"]  # what a row of the results describes
Engine = Literal["local", "ray"]
OtherLayout = Literal["official", "native"]  # layouts that other code opens
ExportFormat = Literal["onnx", "torch-export", "aoti"]
ExportInput = Literal["waveform", "features"]


def expect_one_of(choices: Any, **argument: object) -> None:
    """Raise a ValueError if an argument, given by its name, is none of the values of a `Literal`."""
    [(name, value)] = argument.items()
    if value not in get_args(choices):
        raise ValueError(f"{name}={value!r} is unknown; choose one of {get_args(choices)}.")
