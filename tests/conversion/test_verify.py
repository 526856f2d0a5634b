"""What `verify_folder` proves, and that it finds what is wrong; the reference against the golden cases."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_ast import HfASTConfig
from hf_ast.conversion import layouts as conversion_layouts
from hf_ast.conversion.folders import convert_file, read_provenance
from hf_ast.conversion.reference import reference_forward
from hf_ast.conversion.registry import find
from hf_ast.conversion.verification import TensorComparison, format_verification, read_verification
from hf_ast.conversion.verify import verify_folder
from tests.support.golden_common import CASES, INDEX, check, layout_config, state_dict
from tests.support.official_files import small_content, unwrapped, write_official_file

# The base models with these sizes, and two layers
TINY = {768: 48, 2304: 144, 3072: 192}
CHANGES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192}
CHECKPOINT = "ast-base-s16-audioset-0.4422"
WEIGHTS = "model.safetensors"
IMAGENET = "classes of ImageNet, never used on sounds"


def tiny_content(name: str) -> dict[str, Any]:
    """What the file of a base checkpoint would hold if the model were tiny."""
    return small_content(name, num_layers=2, sizes=TINY)


def convert_tiny(name: str, folder: Path) -> tuple[Path, Path]:
    """The folder of a tiny model, and the file it was made from."""
    checkpoint = find(name)
    source = folder / checkpoint.file_name
    torch.save(tiny_content(checkpoint.file_name), source)
    return convert_file(source, checkpoint, folder / checkpoint.name, changes=CHANGES), source


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return convert_tiny(CHECKPOINT, tmp_path_factory.mktemp("verified"))


# --- What passes


@pytest.mark.parametrize(
    ("name", "output", "kept", "derived", "dropped", "new"),
    [
        (CHECKPOINT, "logits", 35, 0, 4, []),
        ("ast-base-s10-imagenet-384", "last_hidden_state", 29, 2, 4, []),
        ("ssast-base-frame-400", "classification_predictions, reconstructions", 42, 0, 4, []),
        ("ssast-base-patch-400-discriminative", "classification_predictions", 38, 0, 8, []),
        ("passt-s-s12-audioset-0.470", "logits", 37, 0, 2, []),
        ("maest-5s-pw-129e", "logits", 37, 0, 2, []),
        ("ast-base-s10-audioset-torchonly", "logits", 35, 0, 0, ["backbone.embeddings.prefix_positions"]),
        (
            "ssast-base-patch-400-torchonly",
            "classification_predictions, reconstructions",
            40,
            0,
            0,
            ["backbone.embeddings.prefix_positions"],
        ),
        ("passt-s-s10-audioset-0.476-swa-torchonly", "logits", 36, 0, 0, ["backbone.embeddings.prefix_positions"]),
    ],
)
def test_every_kind_of_file_passes(
    name: str, output: str, kept: int, derived: int, dropped: int, new: list[str], tmp_path: Path
) -> None:
    folder, source = convert_tiny(name, tmp_path)
    report = verify_folder(folder, source)
    assert (report.passed, report.problems) == (True, ())
    tensors, forward = report.tensors, report.forward
    assert (tensors.kept, len(tensors.derived), len(tensors.dropped)) == (kept, derived, dropped)
    assert list(tensors.new) == new
    assert kept + derived + dropped == len(unwrapped(torch.load(source, weights_only=True)))
    assert forward.output == output
    assert forward.reference_difference < 1e-5 * forward.scale
    if name.startswith("ast") and output == "logits":
        assert forward.native_difference < 1e-5 * forward.scale
    else:
        assert forward.native_difference is None
    assert read_verification(read_provenance(folder)) == report


def test_a_released_checkpoint_passes_and_the_report_is_readable(tmp_path: Path) -> None:
    checkpoint = find("ssast-tiny-patch-400")
    source = write_official_file(checkpoint, tmp_path)
    report = verify_folder(convert_file(source, checkpoint, tmp_path / "folder"), source)
    assert report.passed
    dropped = {f"v.{head}.{kind}": IMAGENET for head in ("head", "head_dist") for kind in ("weight", "bias")}
    assert report.tensors == TensorComparison(kept=162, dropped=dropped)
    assert report.forward.shape == (1, 256, 256)
    assert report.forward.input == "standard normal values of shape (1, 1024, 128), seed 0, every second patch masked"
    text = format_verification(report)
    assert text.startswith("verified\ntensors: 162 as in the file, bit for bit\n")
    assert f"  dropped: v.head.weight ({IMAGENET})\n" in text
    assert "largest difference from an independent implementation: " in text


def test_the_result_replaces_an_earlier_one(verified: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(verified[0], tmp_path / "folder"))
    assert not verify_folder(folder, tmp_path / "missing.pth").passed
    assert verify_folder(folder, verified[1]).passed
    assert read_provenance(folder)["verification"]["problems"] == []


# --- What does not pass


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def settings(folder: Path, file: str, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((folder / file).read_text())
    change(values)
    (folder / file).write_text(json.dumps(values))


def flip_a_bit(tensors: dict[str, torch.Tensor]) -> None:
    tensors["backbone.layers.1.attention.qkv.weight"].view(torch.int32)[5, 7] ^= 1


def swap_norms(tensors: dict[str, torch.Tensor]) -> None:
    one, two = "backbone.layers.0.norm1.weight", "backbone.layers.0.norm2.weight"
    tensors[one], tensors[two] = tensors[two], tensors[one]


def swap_labels(config: dict[str, Any]) -> None:
    labels = config["id2label"]
    labels["3"], labels["7"] = labels["7"], labels["3"]


CHANGED = {
    "a bit": (
        lambda folder: weights(folder, flip_a_bit),
        ["The tensor 'v.blocks.1.attn.qkv.weight' differs from the file's in 1 of 6912 values."],
    ),
    "two tensors of one shape": (
        lambda folder: weights(folder, swap_norms),
        [
            "The tensor 'v.blocks.0.norm1.weight' differs from the file's in 48 of 48 values.",
            "The tensor 'v.blocks.0.norm2.weight' differs from the file's in 48 of 48 values.",
        ],
    ),
    "a missing tensor": (
        lambda folder: weights(folder, lambda tensors: tensors.pop("classifier.norm.bias")),
        [r"ValueError: folder='.*' has missing keys: \['classifier.norm.bias'\]."],
    ),
    "a truncated file": (lambda folder: (folder / WEIGHTS).write_bytes(b"truncated"), ["SafetensorError: .*"]),
    "the epsilon": (
        lambda folder: settings(folder, "config.json", lambda values: values.update(layer_norm_eps=1e-12)),
        ["config.json has layer_norm_eps=1e-12, but the registry has 1e-06."],
    ),
    "the problem type": (
        lambda folder: settings(folder, "config.json", lambda values: values.update(problem_type=None)),
        ["config.json has problem_type=None, but the registry has 'multi_label_classification'."],
    ),
    "the order of the labels": (
        lambda folder: settings(folder, "config.json", swap_labels),
        [
            r"config.json has 2 labels that differ from the registry: id2label\[3\] is 'Speech synthesizer', "
            "not 'Child speech, kid speaking'."
        ],
    ),
    "the mean": (
        lambda folder: settings(folder, "preprocessor_config.json", lambda values: values.update(mean=-6.8)),
        ["preprocessor_config.json has mean=-6.8, but the registry has -4.2677393."],
    ),
}


@pytest.mark.parametrize(("change", "problems"), CHANGED.values(), ids=CHANGED)
def test_a_changed_folder_fails_and_says_why(
    change: Callable[[Path], None], problems: list[str], verified: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(verified[0], tmp_path / "folder"))
    change(folder)
    report = verify_folder(folder, verified[1])
    assert not report.passed
    assert len(report.problems) == len(problems)
    for found, expected in zip(report.problems, problems, strict=True):
        assert re.fullmatch(expected, found, flags=re.DOTALL)
    assert format_verification(report).startswith(f"NOT verified\n  problem: {report.problems[0]}\n")


def test_another_file_fails(verified: tuple[Path, Path], tmp_path: Path) -> None:
    content = tiny_content(find(CHECKPOINT).file_name)
    content["module.v.norm.bias"] += 1
    del content["module.v.dist_token"]
    torch.save(content, tmp_path / "other.pth")
    report = verify_folder(Path(shutil.copytree(verified[0], tmp_path / "folder")), tmp_path / "other.pth")
    assert re.match(
        r"source='.*other.pth' has sha256 \w{64}, the folder was made from a file with", report.problems[0]
    )
    assert report.problems[1:] == (
        "The tensor 'v.norm.bias' differs from the file's in 48 of 48 values.",
        "The folder has the tensor 'v.dist_token', which the file does not have.",
    )


def test_a_wrong_key_map_fails_which_no_round_trip_can_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, *others = conversion_layouts.LAYOUTS[HfASTConfig]
    key_map = dict(layout.key_map)
    for kind in ("weight", "bias"):
        one, two = f"v.blocks.{{}}.norm1.{kind}", f"v.blocks.{{}}.norm2.{kind}"
        key_map[one], key_map[two] = key_map[two], key_map[one]
    wrong = dataclasses.replace(layout, key_map=key_map)
    monkeypatch.setitem(conversion_layouts.LAYOUTS, HfASTConfig, (wrong, *others))
    report = verify_folder(*convert_tiny(CHECKPOINT, tmp_path))
    assert report.tensors.kept == 35
    assert report.forward.reference_difference > 100 * 1e-4 * report.forward.scale
    assert re.fullmatch(
        r"logits differs by [\d.]+ from the independent implementation, more than [\d.e-]+\.", *report.problems
    )


def test_a_folder_of_no_conversion_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no conversion\.json"):
        verify_folder(tmp_path, tmp_path / "file.pth")


# --- The independent implementation


@pytest.mark.parametrize(
    ("case", "arrays"),
    [
        ("ast_tiny224_t1024", {"logits", "last_hidden_state__rows"}),
        ("passt_micro_t16", {"logits", "last_hidden_state__rows"}),
        ("passt_micro_t998", {"logits", "last_hidden_state__rows"}),
        ("ssast_tiny_frame_pretrain_m20", {"last_hidden_state__rows", "mpc_pred__rows", "mpg_pred__rows"}),
        ("ssast_tiny_patch_pretrain_m48_fit", {"last_hidden_state__rows", "mpc_pred__rows", "mpg_pred__rows"}),
    ],
)
def test_reference_gives_what_the_official_code_gave(case: str, arrays: set[str]) -> None:
    entry = INDEX[case] | {"_folder": CASES.name}
    facts, inputs = layout_config(entry), check.build_inputs(entry)
    input_values = torch.as_tensor(inputs["input_values"])
    stride = facts.get("pretrain_strides") or (facts["fstride"], facts["tstride"])
    outputs = reference_forward(
        unwrapped(state_dict(entry)),
        input_values.squeeze(1).mT if input_values.ndim == 4 else input_values,
        num_heads=facts["num_heads"],
        stride=tuple(stride),
        mask_indices=torch.as_tensor(inputs["mask_index"]).long() if "mask_index" in inputs else None,
    )
    names = {"classification_predictions": "mpc_pred", "reconstructions": "mpg_pred"}
    rows = check.compare(entry, {names.get(name, name): output.numpy() for name, output in outputs.items()})
    compared = {row["array"]: row["status"] for row in rows if row["status"] != "skipped"}
    assert arrays <= compared.keys()
    assert set(compared.values()) == {"ok"}
