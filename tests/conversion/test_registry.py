"""The registry, entry by entry, against the layouts of the official files."""

import dataclasses
import json
from collections import Counter
from itertools import chain
from urllib.parse import urlsplit

import pytest
import torch
from torch import Tensor

from hf_ast.conversion import convert_checkpoint
from hf_ast.conversion.checkpoint import LABEL_SETS, Checkpoint, file_name, label_names
from hf_ast.conversion.containers import unwrap
from hf_ast.conversion.convert import layouts_of
from hf_ast.conversion.heads import head_labels
from hf_ast.conversion.key_maps import look_up
from hf_ast.conversion.listing import HEADER, facts, summary
from hf_ast.conversion.registry import ALIASES, CHECKPOINTS, find, search
from tests.support.loopback_hub import LICENSES
from tests.support.official_files import MIRRORED, MODEL_CLASSES, layouts, torch_only

every_checkpoint = pytest.mark.parametrize("checkpoint", CHECKPOINTS.values(), ids=CHECKPOINTS.keys())


def test_it_holds_every_released_checkpoint() -> None:
    owners = Counter(
        "DeiT" if "deit" in name else "TorchOnlyAST" if "TorchOnlyAST" in repository else repository.split("/")[-1]
        for name, repository in ((c.file_name, c.repository) for c in CHECKPOINTS.values())
    )
    expected = {"ast": 8, "ssast": 13, "PaSST": 25, "PretrainedSED": 3, "MAEST": 8, "TorchOnlyAST": 4, "DeiT": 4}
    assert owners == expected
    assert all(name == checkpoint.name for name, checkpoint in CHECKPOINTS.items())
    assert len({checkpoint.file_name for checkpoint in CHECKPOINTS.values()}) == len(CHECKPOINTS)


@every_checkpoint
def test_config_and_feature_extractor_of_an_entry_fit_each_other(checkpoint: Checkpoint) -> None:
    config, feature_extractor = checkpoint.build_config(), checkpoint.build_feature_extractor()
    assert config.frame_shift_s == feature_extractor.frame_shift / feature_extractor.sampling_rate
    assert config.num_mel_bins == feature_extractor.num_mel_bins
    # A feature extractor of 10 s gives PaSST two frames more than its table, which has 998
    assert 0 <= feature_extractor.max_length - config.max_length <= 2
    if checkpoint.label_set is None:
        assert config.problem_type is None
    else:
        names = label_names(checkpoint.label_set)
        assert config.num_labels == len(names) == len(set(names)) == len(config.label2id)
        assert [config.id2label[index] for index in range(config.num_labels)] == list(names)
        assert config.problem_type == LABEL_SETS[checkpoint.label_set]


def official_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Tensors of the names, shapes and types of the official file; zeros, all of which are one in memory."""
    name = MIRRORED.get(checkpoint.file_name, checkpoint.file_name)
    tensors = {
        key: torch.zeros((), dtype=getattr(torch, dtype)).expand(shape) for key, shape, dtype in layouts()[name]
    }
    return torch_only(tensors) if checkpoint.file_name in MIRRORED else tensors


@every_checkpoint
def test_the_official_file_of_an_entry_fills_the_model_of_its_config(checkpoint: Checkpoint) -> None:
    config = checkpoint.build_config()
    found = unwrap(official_tensors(checkpoint), layouts_of(config))
    tensors, key_map = found.tensors, found.layout.key_map
    layers = {name: look_up(name, key_map)[1] for name in tensors}
    assert {layer for layer in layers.values() if layer is not None} == set(range(config.num_hidden_layers))
    # All layers are alike: one is enough for the shapes, and twelve take seconds
    first = {name: tensor for name, tensor in tensors.items() if layers[name] in (None, 0)}
    model = convert_checkpoint(first, checkpoint.build_config(**head_labels(found), num_hidden_layers=1))
    assert type(model) is MODEL_CLASSES[checkpoint.family][checkpoint.label_set is None]


@every_checkpoint
def test_an_entry_has_what_a_card_needs(checkpoint: Checkpoint) -> None:
    for url in (*checkpoint.urls, *checkpoint.pages, checkpoint.repository, *(m.source for m in checkpoint.metrics)):
        assert urlsplit(url).scheme == "https", url
        assert urlsplit(url).netloc, url
    assert all(0 < metric.value <= 1 and metric.name and metric.dataset for metric in checkpoint.metrics)
    assert checkpoint.license.lower() in LICENSES | ({""} if checkpoint.family == "fpasst" else set())
    assert all((checkpoint.license_note, checkpoint.datasets, checkpoint.title))
    assert set(checkpoint.sha256) <= set("0123456789abcdef")
    assert checkpoint.hub_id == f"hf-ast/{checkpoint.name}"


@every_checkpoint
def test_every_name_of_an_entry_finds_it_in_any_case(checkpoint: Checkpoint) -> None:
    files = [file_name(url) for url in checkpoint.urls]
    names = [checkpoint.name, checkpoint.hub_id, *checkpoint.aliases, *files, *(f.rpartition(".")[0] for f in files)]
    for name in chain(names, map(str.upper, names)):
        assert find(name) is checkpoint


def test_names_that_people_have() -> None:
    known = {
        "MIT/ast-finetuned-audioset-10-10-0.4593": "ast-base-s10-audioset-0.4593",
        "audioset_0.4593.pth": "ast-base-s10-audioset-0.4593",
        # TorchOnlyAST and Audyn have the same names
        "ast-base-stride10": "ast-base-s10-audioset-torchonly",
        "multitask-ssast-frame-base-400": "ssast-base-frame-400-torchonly",
        "multitask-ssast-patch-base-400": "ssast-base-patch-400-torchonly",
        "passt-base-stride10-struct-ap0.476-swa": "passt-s-s10-audioset-0.476-swa-torchonly",
        "mtg-upf/discogs-maest-30s-pw-129e": "maest-30s-pw-129e",
        "discogs_maest_5s_pw_129e": "maest-5s-pw-129e",
        "passt_s_swa_p16_128_ap476": "passt-s-s10-audioset-0.476-swa",
        "fpasst_strong_1.pt": "fpasst-base-audioset-strong",
        "fpasst_weak": "fpasst-base-audioset",
        "fpasst_im": "fpasst-base-imagenet",
        "SSAST-Tiny-Frame-400.pth": "ssast-tiny-frame-400",
    }
    assert {name: find(name).name for name in known} == known
    with pytest.raises(ValueError, match=r"'audioset_10_10_0.4539'.* \(close: .*audioset_10_10_0\.4593.*list"):
        find("audioset_10_10_0.4539")


def test_entries_cannot_be_changed() -> None:
    checkpoint = find("ssast-tiny-patch-400")
    with pytest.raises(dataclasses.FrozenInstanceError):
        checkpoint.license = "MIT"
    for mapping in (checkpoint.config, checkpoint.front_end, CHECKPOINTS, ALIASES):
        with pytest.raises(TypeError):
            mapping["max_length"] = 1
    checkpoint.build_config().patch_size[0] = 99
    assert checkpoint.build_config().patch_size == [16, 16]


def test_the_frame_shift_is_that_of_the_front_end() -> None:
    names = ("passt-s-hop160-s10-audioset-0.473-swa", "passt-s-hop100-s10-audioset-0.473-swa", "maest-30s-pw-129e")
    assert [find(name).build_config().frame_shift_s for name in names] == [0.005, 0.003125, 0.016]


def test_search_takes_a_family_and_words() -> None:
    assert search() == list(CHECKPOINTS.values())
    assert {checkpoint.family for checkpoint in search(family="passt")} == {"passt"}
    assert [checkpoint.name for checkpoint in search(words="STRUCT swa")] == [
        "passt-s-s10-audioset-0.476-swa-torchonly"
    ]
    assert search(family="ast", words="ssast") == []


def test_the_summary_shows_the_entry() -> None:
    assert HEADER == ("name", "file", "labels", "metric", "licence")
    assert summary(find("ssast-tiny-patch-400")) == (
        "ssast-tiny-patch-400", "SSAST-Tiny-Patch-400.pth", "-", "average score 0.533", "BSD-3-Clause"
    )  # fmt: skip
    assert summary(find("openmic"))[2:] == ("openmic_20", "mAP 0.85", "Apache-2.0")


@every_checkpoint
def test_the_description_holds_every_fact(checkpoint: Checkpoint) -> None:
    text = "\n".join(fact for _, fact in facts(checkpoint))
    single = (checkpoint.title, checkpoint.hub_id, checkpoint.sha256, checkpoint.license, checkpoint.license_note)
    for value in (*single, *checkpoint.urls, *checkpoint.pages, *checkpoint.aliases, *checkpoint.remarks):
        assert value in text
    for name, value in (*checkpoint.config.items(), *checkpoint.front_end.items()):
        assert f"{name}={json.dumps(value)}" in text
    assert all(metric.source in text for metric in checkpoint.metrics)
