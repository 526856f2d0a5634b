"""Small converted folders: files of official layouts, through the production converter."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from hf_ast.conversion.checkpoint import Checkpoint
from hf_ast.conversion.folders import convert_file, read_provenance, write_provenance
from hf_ast.conversion.registry import find
from hf_ast.conversion.verification import ForwardComparison, TensorComparison, Verification
from tests.support.official_files import (
    MICRO_PASST,
    micro_passt_content,
    small_content,
    tiny_ast_content,
    write_official_file,
)
from tests.support.tiny import GEOMETRY, SIZE

SPEECH_COMMANDS = "ast-base-s10-speech-commands-0.9812"
OPENMIC = "passt-s-s10-openmic-0.85"
SSAST = "ssast-tiny-patch-400"
DEIT = "ast-tiny-s10-imagenet-224"
VERIFICATION = Verification(
    problems=(),
    tensors=TensorComparison(
        kept=41,
        derived={"v.pos_embed": "split into prefix and patch positions"},
        dropped=dict.fromkeys(("v.head.weight", "v.head.bias"), "ImageNet classes, never used"),
    ),
    forward=ForwardComparison(
        input="2 spectrograms of seeded noise",
        output="logits",
        shape=(2, 35),
        sample=(0.25, -1.5),
        scale=1.5,
        reference_difference=3.8e-06,
        native_difference=0.0012,
    ),
    versions={"torch": "2.13.0", "transformers": "5.23.0", "hf_ast": "0.1.0"},
)


def tiny_ast() -> tuple[Checkpoint, dict[str, Any]]:
    """The registry's keyword model in a tiny size, and a file for it."""
    checkpoint = find(SPEECH_COMMANDS)
    front_end = {**checkpoint.front_end, "num_mel_bins": 32, "max_length": 50}
    return dataclasses.replace(checkpoint, config=SIZE | GEOMETRY, front_end=front_end), tiny_ast_content(
        num_labels=35
    )


def narrow(name: str = SSAST) -> Checkpoint:
    """A tiny SSAST of the registry, a third as wide."""
    checkpoint = find(name)
    size = {"hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 256}
    return dataclasses.replace(checkpoint, config=dict(checkpoint.config) | size)


def write_narrow_file(folder: Path) -> Path:
    """The file of that checkpoint, under the name of the official one."""
    path = folder / find(SSAST).file_name
    torch.save(small_content(path.name, num_layers=12, sizes={192: 64, 576: 192, 768: 256}), path)
    return path


def tiny_passt() -> tuple[Checkpoint, dict[str, Any]]:
    """The registry's OpenMIC model in the size of the golden cases' smallest one, and a file for it."""
    return dataclasses.replace(find(OPENMIC), config=MICRO_PASST), micro_passt_content()


def converted(name: str, folder: Path) -> Path:
    """The folder of a small checkpoint, or of a tiny one in its place, not verified."""
    if name in (SSAST, DEIT):
        return convert_file(write_official_file(find(name), folder), find(name), folder / name)
    checkpoint, content = {SPEECH_COMMANDS: tiny_ast, OPENMIC: tiny_passt}[name]()
    file = folder / checkpoint.file_name
    torch.save(content, file)
    return convert_file(file, checkpoint, folder / name, url=checkpoint.urls[0])


def verified(folder: Path, **changes: Any) -> Path:
    """The folder, with what a verification writes."""
    verification = dataclasses.replace(VERIFICATION, **changes)
    write_provenance(folder, read_provenance(folder) | {"verification": verification.to_json()})
    return folder
