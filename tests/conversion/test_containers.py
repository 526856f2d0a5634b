"""What trainers save around the tensors of a model is unwrapped, whatever it is called; the rest is named."""

import argparse
import collections
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hf_ast import HfASTConfig, HfASTModel, PaSSTConfig
from hf_ast.conversion.containers import Unwrapped, unwrap
from hf_ast.conversion.files import CheckpointFile
from hf_ast.conversion.folders import read_tensors
from hf_ast.conversion.layouts import LAYOUTS
from tests.support.official_files import micro_passt_content, tiny_ast_content

AST = {name.removeprefix("module."): tensor for name, tensor in tiny_ast_content().items()}
PASST = micro_passt_content()
CLS = PASST["cls_token"]
AVERAGE = {name: 0.5 * tensor for name, tensor in PASST.items()}


class Settings(dict[str, Any]):
    """Lightning saves its settings in a class of this kind."""


class Names(list[str]):
    """Sacred saves lists in a class of this kind."""


class Module(nn.Module):
    """A model whose state dict is that of PaSST."""

    def __init__(self) -> None:
        super().__init__()
        for name, tensor in PASST.items():
            owner = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, nn.Module())
                owner = getattr(owner, part)
            owner.register_parameter(last, nn.Parameter(tensor.clone()))


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def lightning(state: dict[str, Any]) -> dict[str, Any]:
    """What Lightning saves."""
    return {
        "epoch": 129,
        "state_dict": collections.OrderedDict(state),
        "callbacks": {Settings: {"best_model_score": np.float64(0.3), "best": torch.tensor(0.3)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"betas": (0.9, 0.99)}]}],
        "hyper_parameters": argparse.Namespace(path=Path("x"), settings=Settings(lr=1e-4), names=Names(["a", "b"])),
    }


def opened(content: dict[str, Any], folder: Path, family: type = PaSSTConfig, weights: str | None = None) -> Unwrapped:
    """The same through a file."""
    torch.save(content, folder / "file.ckpt")
    return read_tensors(CheckpointFile(folder / "file.ckpt"), LAYOUTS[family], weights)


def same(found: Unwrapped, expected: dict[str, Tensor]) -> bool:
    return found.tensors.keys() == expected.keys() and all(
        torch.equal(tensor, expected[name]) for name, tensor in found.tensors.items()
    )


ONE_SET = {
    "plain": (PASST, []),
    "state_dict": ({"state_dict": PASST}, ["state_dict"]),
    "model_state_dict": ({"model_state_dict": PASST, "loss": 0.3}, ["model_state_dict"]),
    "compiled": (prefixed("_orig_mod.", PASST), ["_orig_mod"]),
    "compiled in DataParallel": ({"model": prefixed("module._orig_mod.", PASST)}, ["model", "module", "_orig_mod"]),
    "hear21passt": (prefixed("net.", PASST) | {"mel.window": torch.ones(800)}, ["net"]),
    "an unknown prefix": (prefixed("audio_model.net.", PASST) | {"text": torch.ones(2)}, ["audio_model", "net"]),
    "average only": ({"ema": prefixed("module.", PASST), "n": 3}, ["ema", "module"]),
    "nested mappings": ({"net": {"cls_token": CLS}} | prefixed("net.", PASST | {"cls_token": None}), ["net"]),
    "Lightning": (lightning(prefixed("model.", PASST)), ["state_dict", "model"]),
    "twice the same": ({"model": PASST, "best": {name: tensor.clone() for name, tensor in PASST.items()}}, ["model"]),
}  # fmt: skip


@pytest.mark.parametrize(("content", "containers"), ONE_SET.values(), ids=ONE_SET)
def test_container_is_unwrapped(content: dict[str, Any], containers: list[str], tmp_path: Path) -> None:
    content = {name: value for name, value in content.items() if value is not None}
    found = opened(content, tmp_path)
    assert same(found, PASST)
    assert list(found.containers) == containers


def test_wrappers_inside_a_model_are_unwrapped() -> None:
    names = {name: name.replace("blocks.1.", "blocks.1._orig_mod.") for name in AST}
    names = {name: wrapped.replace("v.", "v.module.", 1) for name, wrapped in names.items()}
    content = {names[name]: tensor for name, tensor in AST.items()}
    assert same(unwrap(content, LAYOUTS[HfASTConfig]), AST)


def averaged_model() -> dict[str, Any]:
    average = AveragedModel(Module())
    average.load_state_dict({"n_averaged": torch.tensor(4)} | prefixed("module.", AVERAGE))
    return dict(average.state_dict())


TWO_SETS = {
    "PaSST's training": lightning(prefixed("net.", PASST) | prefixed("net_swa.", AVERAGE)),
    "AveragedModel": {"model": PASST, "best": averaged_model()},
    "timm": {"state_dict": PASST, "state_dict_ema": AVERAGE},
    "camel case": {"student": PASST, "modelEMA": prefixed("module.", AVERAGE)},
}


@pytest.mark.parametrize("content", TWO_SETS.values(), ids=TWO_SETS)
def test_average_is_taken_and_raw_weights_by_choice(content: dict[str, Any], tmp_path: Path) -> None:
    for weights, expected, other in ((None, AVERAGE, "raw"), ("average", AVERAGE, "raw"), ("raw", PASST, "average")):
        found = opened(content, tmp_path, weights=weights)
        assert same(found, expected)
        assert found.others.keys() == {other}
    assert found.weights == "raw"


def test_sets_of_which_none_is_an_average_must_be_chosen_from() -> None:
    content = {"student": PASST, "teacher": AVERAGE}
    with pytest.raises(ValueError, match="several sets of weights: student, teacher; choose one by its name with"):
        unwrap(content, LAYOUTS[PaSSTConfig])
    assert same(unwrap(content, LAYOUTS[PaSSTConfig], "teacher"), AVERAGE)
    with pytest.raises(
        ValueError, match="weights='raw' is not one set of weights in the file, which has student, tea"
    ):
        unwrap(content, LAYOUTS[PaSSTConfig], "raw")


def test_what_is_left_out_is_named_and_counted(tmp_path: Path) -> None:
    found = opened(lightning(prefixed("net.", PASST) | prefixed("net_swa.", AVERAGE)), tmp_path)
    assert found.left_out == {
        "epoch": "129",
        "state_dict.net": f"{len(PASST)} tensors",
        "callbacks": "1 tensor and 1 other values",
        "optimizer_states": "1 tensor and 1 other values",
        "hyper_parameters": "an object of argparse.Namespace",
    }


def test_unknown_tensor_beside_known_ones_is_kept_to_be_an_error_and_a_model_of_another_family_is_none() -> None:
    found = unwrap(prefixed("net.", PASST | {"extra": torch.ones(1)}), LAYOUTS[PaSSTConfig])
    assert "extra" in found.tensors
    with pytest.raises(ValueError, match="in no layout known for PaSSTConfig"):
        unwrap(AST, LAYOUTS[PaSSTConfig])  # its image model alone would be in the layout of DeiT


def test_file_without_a_classifier_gives_the_backbone() -> None:
    content = {f"encoder.{name}": tensor for name, tensor in AST.items() if name.startswith("v.")}
    found = unwrap(content | {"head.weight": torch.ones(2)}, LAYOUTS[HfASTConfig])
    assert found.layout.model_class is HfASTModel
    assert found.left_out == {"head": "1 tensor"}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"model": model, "epoch": 3}])
def test_whole_model_is_refused_with_how_to_save_its_tensors(
    wrap: Callable[[nn.Module], Any], zipped: bool, tmp_path: Path
) -> None:
    torch.save(wrap(nn.Linear(2, 2)), tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"torch\.save\(model\.state_dict\(\), 'weights\.pth'\)"):
        read_tensors(CheckpointFile(tmp_path / "model.pt"), LAYOUTS[PaSSTConfig])


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_read_by_their_index_or_folder(kind: str, tmp_path: Path) -> None:
    name, save = ("model.safetensors", save_file) if kind == "safetensors" else ("pytorch_model.bin", torch.save)
    halves = [dict(list(PASST.items())[part::2]) for part in range(2)]
    weight_map = {}
    for number, half in enumerate(halves):
        save(prefixed("model.", half), tmp_path / f"part{number}.{kind}")
        weight_map |= dict.fromkeys(half, f"part{number}.{kind}")
    (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for path in (tmp_path, tmp_path / f"{name}.index.json"):
        assert same(read_tensors(CheckpointFile(path), LAYOUTS[PaSSTConfig]), PASST)
    assert len(CheckpointFile(tmp_path).digests) == 2
    (tmp_path / f"part1.{kind}").unlink()
    with pytest.raises(ValueError, match=rf"names files that are not beside it: \['part1\.{kind}'\]"):
        _ = CheckpointFile(tmp_path).content


def test_reading_takes_one_pass_for_the_digest_and_one_for_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(PASST, tmp_path / "file.pth")
    file, loads = CheckpointFile(tmp_path / "file.pth"), []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: loads.append(1) or load(*args, **kwargs))
    for _ in range(3):
        assert same(read_tensors(file, LAYOUTS[PaSSTConfig]), PASST)
    (tmp_path / "file.pth").unlink()
    assert len(file.sha256) == 64
    assert loads == [1]
