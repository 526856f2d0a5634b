"""A folder is whole, or not there: what goes in, and everything that may go wrong on the way."""

import dataclasses
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

import hf_ast
from hf_ast import HfASTForAudioClassification, SSASTForPreTraining
from hf_ast.conversion import convert_checkpoint
from hf_ast.conversion.changes import split_changes
from hf_ast.conversion.checkpoint import Checkpoint
from hf_ast.conversion.folders import convert_file, read_provenance, sha256
from hf_ast.conversion.registry import find
from hf_ast.whole import HOST
from tests.support.converted import narrow, verified, write_narrow_file
from tests.support.official_files import tiny_ast_content, tiny_ast_outputs
from tests.support.processes import exit_code, limit_file_size, start
from tests.support.tiny import GEOMETRY, SIZE, spectrograms

TINY = narrow()


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_file(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def tensors(official: Path) -> dict[str, torch.Tensor]:
    return torch.load(official, weights_only=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_holds_the_model_its_front_end_and_its_origin(official: Path, tmp_path: Path) -> None:
    folder = convert_file(official, TINY, tmp_path / "new" / "model", url="https://example.org/a")
    model, info = SSASTForPreTraining.from_pretrained(folder, output_loading_info=True)
    expected = convert_checkpoint(torch.load(official, weights_only=True), TINY.build_config())
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), atol=0, rtol=0)
    assert not any(info.values())
    assert AutoModel.from_pretrained(folder).config.patch_size == [16, 16]
    front_end = AutoFeatureExtractor.from_pretrained(folder)
    expected_front_end = TINY.build_feature_extractor().to_dict()
    assert {name: value for name, value in front_end.to_dict().items() if name != "auto_map"} == expected_front_end
    source = {
        "file": "SSAST-Tiny-Patch-400.pth",
        "url": "https://example.org/a",
        "sha256": sha256(official),
        "num_bytes": official.stat().st_size,
    }
    config = TINY.config | {"patch_size": [16, 16]}
    assert read_provenance(folder) == {
        "checkpoint": "ssast-tiny-patch-400",
        "entry": {"config": config, "front_end": {}, "label_set": None},
        "changes": {},
        "front_end_changes": {},
        "given": [],
        "weights": None,
        "unwrapped": {"containers": ["module"], "weights": "", "others": {}, "left_out": {}, "stored_as": ["float32"]},
        "assumed": {},
        "hf_ast": hf_ast.__version__,
        "source": source,
        "files": {
            name: hashlib.sha256(content).hexdigest()
            for name, content in contents(folder).items()
            if name != "conversion.json"
        },
    }


def fine_tuned(folder: Path) -> Path:
    """The file of a tiny AST that somebody trained with the official code."""
    torch.save(tiny_ast_content(), folder / "best_audio_model.pth")
    return folder / "best_audio_model.pth"


def test_a_fine_tuned_file_brings_labels_statistics_and_geometry(tmp_path: Path) -> None:
    file = fine_tuned(tmp_path)
    labels = dict(enumerate(("dog", "rain", "sea", "baby", "clock")))
    changes = {**SIZE, **GEOMETRY, "id2label": labels, "mean": -6.6, "problem_type": "single_label_classification"}
    checkpoint = find("ast-base-s10-audioset-0.4593")
    folder = convert_file(file, checkpoint, tmp_path / "out", changes=changes)
    loaded = HfASTForAudioClassification.from_pretrained(folder)
    expected = tiny_ast_outputs(spectrograms(2, 50))["logits"]
    torch.testing.assert_close(loaded(spectrograms(2, 50)).logits, expected, atol=1e-5, rtol=1e-5)
    assert loaded.config.id2label == labels
    assert loaded.config.label2id == {name: index for index, name in labels.items()}
    assert loaded.config.problem_type == "single_label_classification"
    front_end = AutoFeatureExtractor.from_pretrained(folder)
    assert (front_end.mean, front_end.max_length, front_end.num_mel_bins) == (-6.6, 50, 32)
    # What was written down as JSON is the same conversion: numbers as keys and tuples are none in JSON
    before = (folder / "model.safetensors").stat().st_mtime_ns
    convert_file(file, checkpoint, folder, changes=changes)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert checkpoint.build_config(**read_provenance(folder)["changes"]).id2label == labels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hiden_size": 3}, r"'hiden_size', which is not a field of SSASTConfig or .*Similar: hidden_size"),
        ({"hidden_size": "many"}, "expected int, got str"),
        ({"mean": "low"}, "mean='low', which must be a number"),
        ({"hidden_size": 65}, "no multiple of 64, .*; give num_attention_heads as well"),
        ({"hidden_size": 65, "num_attention_heads": 3}, "must be a multiple of num_attention_heads=3"),
        ({"num_labels": 0}, "num_labels=0 must be a positive number"),
        ({"num_labels": 3, "id2label": {0: "a", 1: "b"}}, "num_labels=3, but there are 2 labels"),
        ({"id2label": {0: "a", 2: "b"}}, "numbered 0 to 1"),
        ({"id2label": {0: "a", 1: "a"}}, "'a' is empty, not text, or used twice"),
        ({"num_hidden_layers": 11}, "backbone.layers.11"),
    ],
)
def test_changes_that_do_not_fit_are_an_error(
    official: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        convert_file(official, TINY, tmp_path / "out", changes=changes)
    assert list(tmp_path.iterdir()) == []


def test_a_number_of_labels_alone_gives_them_names() -> None:
    config_changes, _ = split_changes(find("ast-base-s10-audioset-0.4593"), {"num_labels": 2})
    config = find("ast-base-s10-audioset-0.4593").build_config(**config_changes)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1}


class RunsCode:
    """Its pickle makes a folder when it is opened."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return os.mkdir, (str(self.marker),)


def refused(file: Path, message: str, checkpoint: Checkpoint = TINY) -> None:
    """The file is a clear error, and nothing is left."""
    out = file.parent / "folders" / "out"
    with pytest.raises(ValueError, match=message):
        convert_file(file, checkpoint, out)
    assert not out.parent.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_does_not_run_it(
    tmp_path: Path, tensors: dict[str, torch.Tensor], zipped: bool
) -> None:
    marker = tmp_path / "code was run"
    file = tmp_path / "evil.pth"
    torch.save(tensors | {"extra": RunsCode(marker)}, file, _use_new_zipfile_serialization=zipped)
    refused(file, r"opening it would run posix\.mkdir\. None of it was run")
    assert not marker.exists()
    torch.load(file, weights_only=False)  # It would have
    assert marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_an_error(official: Path, tmp_path: Path, share: float) -> None:
    file = tmp_path / official.name
    file.write_bytes(official.read_bytes()[: int(share * official.stat().st_size)])
    refused(file, f"{official.name}' is not a checkpoint of torch, or is damaged; download it again")


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>Not found</html>", b"hello world", bytes(range(256)), b"PK\x03\x04" + bytes(99)]
)
def test_a_file_of_something_else_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "page.pth"
    file.write_bytes(content)
    refused(file, "is not a checkpoint of torch, or is damaged")


def test_a_file_of_another_architecture_is_an_error(official: Path, tmp_path: Path) -> None:
    file = tmp_path / official.name
    file.write_bytes(official.read_bytes())
    of_frames = narrow("ssast-tiny-frame-400")
    refused(file, r"has shape \(64, 1, 16, 16\), the config describes \(64, 1, 128, 2\)", of_frames)
    refused(file, r"has shape \(1, 1, 64\), the config describes \(1, 1, 384\)", find("ssast-small-patch-400"))
    refused(file, "no layout known for PaSSTConfig", find("openmic"))


def saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "changed.pth")
    return folder / "changed.pth"


def test_a_renamed_tensor_is_an_error_that_names_it(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    renamed = {key.replace("blocks.3.norm1", "blocks.3.norm9"): value for key, value in tensors.items()}
    refused(saved(tmp_path, renamed), r"'v\.blocks\.3\.norm9\.weight', which is unknown")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_an_error_that_names_it(
    tmp_path: Path, tensors: dict[str, torch.Tensor], value: float
) -> None:
    name = "module.v.blocks.7.mlp.fc1.bias"
    damaged = tensors[name].clone()
    damaged[5] = value
    refused(saved(tmp_path, tensors | {name: damaged}), "'v.blocks.7.mlp.fc1.bias' holds values that are not finite")


def test_what_is_no_state_dict_is_an_error(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    refused(saved(tmp_path, [1.0]), "holds a list, but must hold a state dict")
    name = "module.v.cls_token"
    refused(saved(tmp_path, tensors | {name: [3.0]}), r"state_dict\['module\.v\.cls_token'\] is a list")


def convert_on_a_full_disk(official: Path, out: Path, num_bytes: int) -> None:
    limit_file_size(num_bytes)
    with pytest.raises(OSError, match="File too large"):
        convert_file(official, TINY, out)


@pytest.mark.parametrize("num_bytes", [10_000, 1_000_000])
def test_a_full_disk_leaves_nothing(official: Path, tmp_path: Path, num_bytes: int) -> None:
    assert exit_code(start(convert_on_a_full_disk, official, tmp_path / "out", num_bytes)) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_folder_that_was_there(official: Path, tmp_path: Path) -> None:
    folder = convert_file(official, TINY, tmp_path / "out", url="https://example.org/earlier")
    before = contents(folder)
    assert exit_code(start(convert_on_a_full_disk, official, folder, 1_000_000)) == 0
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def convert_and_die(official: Path, out: Path, event: str, name: str) -> None:
    """The process kills itself just before it writes or renames the first file of such a name: as Python tells."""

    def kill(happening: str, arguments: tuple[object, ...]) -> None:
        if happening == event and arguments[1] != "r" and Path(str(arguments[0])).name.startswith(name):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    convert_file(official, TINY, out)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("event", "name"),
    [("open", "preprocessor_config.json"), ("open", ".conversion.json.partial"), ("os.rename", ".out.partial-")],
)
def test_a_killed_conversion_is_cleaned_up_by_the_next(
    official: Path, tmp_path: Path, event: str, name: str, before: bool
) -> None:
    out = tmp_path / "out"
    if before:
        convert_file(official, TINY, out, url="https://example.org/earlier")
    assert exit_code(start(convert_and_die, official, out, event, name)) == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path != out]
    assert any((folder / "model.safetensors").is_file() for folder in left)
    # Between two changes of names there is no folder; at any other time it is the earlier one, or none
    assert out.exists() == (before and event == "open")
    convert_file(official, TINY, out)
    assert list(tmp_path.iterdir()) == [out]
    assert read_provenance(out)["source"]["url"] is None
    assert AutoModel.from_pretrained(out).config.hidden_size == 64


def test_the_replaced_folder_comes_back_if_the_next_conversion_fails(official: Path, tmp_path: Path) -> None:
    out = convert_file(official, TINY, tmp_path / "out", url="https://example.org/earlier")
    before = contents(out)
    assert exit_code(start(convert_and_die, official, out, "os.rename", ".out.partial-")) == -signal.SIGKILL
    assert not out.exists()
    assert exit_code(start(convert_on_a_full_disk, official, out, 1_000_000)) == 0
    assert contents(out) == before


def test_a_folder_of_somebody_else_is_refused(official: Path, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis' exists and was not made by a conversion; give another folder"):
        convert_file(official, TINY, out)
    with pytest.raises(ValueError, match=r"chapter1.txt' exists and was not made by a conversion"):
        convert_file(official, TINY, out / "chapter1.txt")
    assert contents(tmp_path) == {"thesis/chapter1.txt": b"years of work"}


def test_the_same_conversion_again_writes_nothing(official: Path, tmp_path: Path) -> None:
    folder = convert_file(official, TINY, tmp_path / "out")
    verified(folder)
    (folder / "README.md").write_text("a card")
    before = {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())}
    assert convert_file(official, TINY, folder) == folder
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())} == before


def test_another_version_source_or_loss_of_the_weights_makes_the_folder_again(
    official: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = convert_file(official, TINY, tmp_path / "out")
    monkeypatch.setattr(hf_ast, "__version__", "99.0")
    convert_file(official, TINY, folder)
    assert read_provenance(folder)["hf_ast"] == "99.0"
    changed = {key: 2 * value if key.endswith("cls_token") else value for key, value in tensors.items()}
    convert_file(saved(tmp_path, changed), TINY, folder)
    model = SSASTForPreTraining.from_pretrained(folder)
    torch.testing.assert_close(
        model.backbone.embeddings.cls_token.data, 2 * tensors["module.v.cls_token"], atol=0, rtol=0
    )
    (folder / "model.safetensors").unlink()
    convert_file(tmp_path / "changed.pth", TINY, folder)
    assert sha256(folder / "model.safetensors") == read_provenance(folder)["files"]["model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changed.pth", "out"]


def test_a_folder_whose_weights_were_trained_on_is_not_replaced(official: Path, tmp_path: Path) -> None:
    folder = convert_file(official, TINY, tmp_path / "out")
    model = SSASTForPreTraining.from_pretrained(folder)
    torch.nn.init.zeros_(model.backbone.norm.weight)
    model.save_pretrained(folder)
    before = contents(folder)
    with pytest.raises(
        ValueError, match=r"was changed after its conversion \(model\.safetensors\); give another folder"
    ):
        convert_file(official, TINY, folder)
    assert contents(folder) == before


def test_a_name_with_special_characters_and_a_link_are_folders_like_any(official: Path, tmp_path: Path) -> None:
    out = tmp_path / "a[b]*"
    (tmp_path / f".{out.name}.partial-{HOST}-999999999-0123abcd").mkdir()
    convert_file(official, TINY, out, url="https://example.org/earlier")
    (tmp_path / "link").symlink_to(out)
    convert_file(official, TINY, tmp_path / "link")
    assert read_provenance(out)["source"]["url"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a[b]*", "link"]


def test_a_folder_without_provenance_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no conversion\.json: `hf-ast convert` makes one"):
        read_provenance(tmp_path)


def test_a_custom_checkpoint_of_the_same_kind_converts(tmp_path: Path) -> None:
    file = fine_tuned(tmp_path)
    like = dataclasses.replace(
        find("ast-base-s10-audioset-0.4593"), config=SIZE | GEOMETRY | {"num_labels": 5}, label_set=None
    )
    folder = convert_file(file, like, tmp_path / "out")
    loaded = HfASTForAudioClassification.from_pretrained(folder)
    expected = tiny_ast_outputs(spectrograms(2, 50))["logits"]
    torch.testing.assert_close(loaded(spectrograms(2, 50)).logits, expected, atol=1e-5, rtol=1e-5)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["HfASTForAudioClassification"]
