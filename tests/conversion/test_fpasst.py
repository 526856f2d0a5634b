"""fPaSST's files: any subset of heads, both prefixes; what is not known is said, and nothing is published."""

import dataclasses
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForAudioClassification, AutoModelForAudioFrameClassification

from hf_ast import (
    FPaSSTConfig,
    FPaSSTFeatureExtractor,
    FPaSSTForAudioClassification,
    FPaSSTForAudioFrameClassification,
    FPaSSTModel,
)
from hf_ast.conversion import convert_checkpoint, publish_all
from hf_ast.conversion.cards import render_card
from hf_ast.conversion.checkpoint import Checkpoint, label_names
from hf_ast.conversion.export import open_model, to_official
from hf_ast.conversion.folders import convert_file, read_provenance
from hf_ast.conversion.publish import publish_folder
from hf_ast.conversion.reference import fpasst_reference
from hf_ast.conversion.registry import find
from hf_ast.conversion.verify import verify_folder
from hf_ast.inference.description import describe_model
from tests.support.golden_common import CASES, INDEX, check, layout_config, state_dict
from tests.support.interpreter import ROOT
from tests.support.official_files import MICRO_PASST, small_content
from tests.support.tiny import spectrograms

STRONG = "fpasst-base-audioset-strong"
ENTRIES = (STRONG, "fpasst-base-audioset", "fpasst-base-imagenet")
# The sizes of `MICRO_PASST`, but two layers
TINY = {768: 96, 2304: 288, 3072: 384}
HEADS = {
    "frames and clips, equal": ({"strong_head": 447, "weak_head": 447}, FPaSSTForAudioFrameClassification),
    "frames and clips": ({"strong_head": 447, "weak_head": 527}, FPaSSTForAudioFrameClassification),
    "frames and clips of unknown sizes": ({"strong_head": 10, "weak_head": 7}, FPaSSTForAudioFrameClassification),
    "frames": ({"strong_head": 447}, FPaSSTForAudioFrameClassification),
    "clips": ({"weak_head": 527}, FPaSSTForAudioClassification),
    "none": ({}, FPaSSTModel),
}
PREFIXES = ("model.", "model.fpasst.", "")
NAMES = {447: label_names("audioset_strong_447"), 527: label_names("audioset_527")}


def tiny(name: str = STRONG) -> Checkpoint:
    return dataclasses.replace(find(name), config=MICRO_PASST | {"num_hidden_layers": 2})


def content(heads: dict[str, int], prefix: str = "model.") -> dict[str, Tensor]:
    tensors = small_content("fpasst_ssl.pt", num_layers=2, sizes=TINY)
    tensors = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
    generator = torch.Generator().manual_seed(0)
    for head, size in heads.items():
        tensors[f"{head}.weight"] = torch.randn(size, 96, generator=generator)
        tensors[f"{head}.bias"] = torch.randn(size, generator=generator)
    return tensors


def converted(tensors: dict[str, Tensor], folder: Path, name: str = STRONG) -> tuple[Path, Path]:
    file = folder / find(name).file_name
    torch.save(tensors, file)
    return convert_file(file, tiny(name), folder / "out", url=find(name).urls[0]), file


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry has tiny models in the place of base ones."""
    from hf_ast.conversion import registry

    small = {name: tiny(name) for name in ENTRIES}
    monkeypatch.setattr(registry, "ALIASES", dict(registry.ALIASES) | small)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(("heads", "model_class"), HEADS.values(), ids=HEADS)
def test_any_subset_of_heads_is_converted_and_verified(
    heads: dict[str, int], model_class: type, tmp_path: Path
) -> None:
    prefix = PREFIXES[len(heads)]
    folder, file = converted(content(heads, prefix), tmp_path)
    model = open_model(folder)
    assert type(model) is model_class
    report = verify_folder(folder, file)
    assert (report.problems, report.tensors.kept) == ((), 11 + 2 + 24 + 2 + 2 * len(heads))
    assert report.forward.reference_difference < 1e-5 * report.forward.scale
    config, sizes = model.config, list(heads.values())
    if not heads:
        return
    names = [config.id2label[number] for number in range(config.num_labels)]
    assert names == list(NAMES.get(sizes[0], [f"LABEL_{number}" for number in range(sizes[0])]))
    if heads.keys() == {"strong_head", "weak_head"}:
        clip_names = [f"LABEL_{number}" for number in range(sizes[1])]
        assert config.clip_labels == (None if sizes[0] == sizes[1] else list(NAMES.get(sizes[1], clip_names)))
        opened = AutoModelForAudioClassification.from_pretrained(folder)
        assert opened.config.num_labels == sizes[1]
    assert config.clip_head == ("none" if heads.keys() == {"strong_head"} else "linear")
    assert config.problem_type == "multi_label_classification"


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", ENTRIES)
def test_no_entry_is_published_and_the_card_says_why(name: str, tmp_path: Path) -> None:
    heads = {STRONG: {"strong_head": 447}, ENTRIES[1]: {"weak_head": 527}, ENTRIES[2]: {}}[name]
    folder, file = converted(content(heads), tmp_path, name)
    assert verify_folder(folder, file).passed
    text = render_card(folder)
    assert "license: unknown" in text
    assert "No licence is stated. The code has the licence MIT" in text
    assert all(remark in text for remark in find(name).remarks)
    with pytest.raises(ValueError, match="is not published: no licence is stated"):
        publish_folder(folder, "me/mine")
    assert publish_all.find_refusal(find(name)).startswith("no licence is stated")


@pytest.mark.usefixtures("known")
def test_the_card_of_frames_says_what_comes_out(tmp_path: Path) -> None:
    folder, _ = converted(content({"strong_head": 447, "weak_head": 527}), tmp_path)
    text = render_card(folder)
    assert "447 classes for each of 250 cells of 40 ms, any number of which may apply" in text
    assert "for the whole clip, 527 classes" in text
    assert "mean of three training runs" in text
    assert "AutoModelForAudioFrameClassification" in text
    described = describe_model(folder)
    assert described["cells"] == {"number": 250, "length_s": 0.04}
    assert (described["family"][:6], described["labels"]["number"], described["window_s"]) == ("fPaSST", 447, 10.0)


@pytest.mark.usefixtures("known")
def test_a_file_of_another_training_tells_what_was_assumed(tmp_path: Path) -> None:
    torch.save(content({"strong_head": 10, "weak_head": 7}), tmp_path / "mine.pt")
    changes = {"num_labels": 10, "hop_length": 320}
    folder = convert_file(tmp_path / "mine.pt", tiny(), tmp_path / "out", changes=changes)
    assumed = read_provenance(folder)["assumed"]
    assert assumed["clip_head"] == {"value": "linear", "source": f"as in {STRONG}"}
    assert assumed["hop_length"] == {"value": 320, "source": "as given"}
    assert AutoConfig.from_pretrained(folder).frame_shift_s == 0.02
    assert AutoModelForAudioFrameClassification.from_pretrained(folder).config.clip_labels[6] == "LABEL_6"


@pytest.mark.parametrize(("heads", "model_class"), HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_there_and_back_again_no_bit_changes(heads: dict[str, int], model_class: type, prefix: str) -> None:
    tensors = content(heads)
    config = FPaSSTConfig(**MICRO_PASST | {"num_hidden_layers": 2})
    config.num_labels = next(iter(heads.values()), 2)
    if len(set(heads.values())) == 2:
        config.clip_labels = [str(number) for number in range(heads["weak_head"])]
    model = convert_checkpoint(content(heads, prefix), config)
    assert type(model) is model_class
    official, zeros = to_official(model)
    assert zeros == []
    assert set(official) == set(tensors)
    torch.testing.assert_close(official, {name: tensors[name] for name in official}, atol=0, rtol=0)


def test_an_unknown_tensor_is_an_error() -> None:
    tensors = content({"strong_head": 447}) | {"seq_model.rnn.weight_ih_l0": torch.zeros(6, 96)}
    config = FPaSSTConfig(**MICRO_PASST | {"num_hidden_layers": 2, "num_labels": 447})
    with pytest.raises(ValueError, match=r"seq_model\.rnn\.weight_ih_l0"):
        convert_checkpoint(tensors, config)


@pytest.mark.parametrize(
    ("case", "arrays"),
    [
        ("fpasst_micro_t1000", {"strong_logits", "weak_logits"}),
        ("fpasst_micro_t333", {"strong_logits", "weak_logits"}),
        ("fpasst_micro_t4", {"strong_logits", "weak_logits"}),
        ("fpasst_micro_seqlen100_t1000", {"strong_logits", "weak_logits"}),
        ("fpasst_micro_file_t1000", {"strong_logits", "weak_logits"}),
        ("fpasst_micro_attention_t1000", {"strong_probs", "weak_probs"}),
    ],
)
def test_reference_gives_what_the_official_code_gave(case: str, arrays: set[str]) -> None:
    entry = INDEX[case] | {"_folder": CASES.name}
    facts = layout_config(entry) | entry.get("config", {})
    values = torch.as_tensor(check.build_inputs(entry)["input_values"]).squeeze(1).mT
    outputs = fpasst_reference(
        state_dict(entry), values, num_heads=facts["num_heads"], num_cells=facts["seq_len"],
        clip_head=facts["head_type"],
    )  # fmt: skip
    strong, weak = outputs["logits"].mT, outputs["clip_logits"]
    named = {"strong_logits": strong, "weak_logits": weak}
    named |= {"strong_probs": strong.sigmoid(), "weak_probs": weak.sigmoid()}
    rows = check.compare(entry, {name: named[name].numpy() for name in arrays})
    compared = {row["array"]: row["status"] for row in rows if row["status"] != "skipped"}
    assert compared == dict.fromkeys(arrays, "ok")


def test_extractor_and_config_agree_on_the_shortest_clip() -> None:
    extractor = find(STRONG).build_feature_extractor()
    assert isinstance(extractor, FPaSSTFeatureExtractor)
    assert extractor.min_length == find(STRONG).build_config().min_frames == 1


@pytest.mark.usefixtures("known")
def test_script_makes_the_folder_of_the_converter(tmp_path: Path) -> None:
    tensors = content({"strong_head": 10, "weak_head": 7})
    torch.save(tensors, tmp_path / "file.pt")
    runpy.run_path(str(ROOT / "conversion" / "convert_fpasst.py"))["main"](
        str(tmp_path / "file.pt"), STRONG, str(tmp_path / "out")
    )
    model = AutoModelForAudioFrameClassification.from_pretrained(tmp_path / "out")
    clip = spectrograms(1, 400, 128)
    expected = fpasst_reference(tensors, clip, num_heads=MICRO_PASST["num_attention_heads"], num_cells=250)
    with torch.no_grad():
        outputs = model(clip)
    torch.testing.assert_close(outputs.logits, expected["logits"], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(outputs.clip_logits, expected["clip_logits"], atol=1e-4, rtol=1e-5)
