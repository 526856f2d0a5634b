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
TrainingTask = Literal["clips", "events"]
PretrainingSize = Literal["tiny", "small", "base"]
PatchKind = Literal["patch", "frame"]
PretrainingOptimizer = Literal["adamw", "muon"]
Split = Literal["all", "train", "validation", "test"]
Protocol = Literal["esc50"]
PresetName = Literal[
    "audioset",
    "esc50",
    "speech-commands",
    "ssast-audioset",
    "ssast-esc50",
    "ssast-speech-commands",
    "fsd50k",
    "passt-audioset",
    "passt-esc50",
    "openmic",
    "small-data",
]
SelectionMetric = Literal["accuracy", "balanced_accuracy", "mAP"]
Freeze = Literal["nothing", "embeddings", "backbone"]
InputStatistics = Literal["checkpoint", "data"]


def expect_one_of(choices: Any, **argument: object) -> None:
    """Raise a ValueError if an argument, given by its name, is none of the values of a `Literal`."""
    [(name, value)] = argument.items()
    if value not in get_args(choices):
        raise ValueError(f"{name}={value!r} is unknown; choose one of {get_args(choices)}.")
