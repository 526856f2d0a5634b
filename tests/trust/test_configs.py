"""Configs with absurd or mistyped values: a model that can be built, or one error that names a field; never a hang."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from transformers import AutoConfig, PreTrainedConfig

from hf_ast import (
    HfASTConfig,
    HfASTForAudioClassification,
    PaSSTConfig,
    PaSSTForAudioClassification,
    SSASTConfig,
    SSASTForAudioClassification,
    SSASTForPreTraining,
)
from hf_ast.cli.errors import unwrapped
from hf_ast.models.configuration_common import SpectrogramConfig
from tests.support.cases import cases
from tests.support.tiny import GEOMETRY, SIZE

MODELS: dict[type[SpectrogramConfig], Any] = {
    HfASTConfig: HfASTForAudioClassification,
    PaSSTConfig: PaSSTForAudioClassification,
    SSASTConfig: SSASTForAudioClassification,
}
# Without what transformers' own base class has
OWN_FIELDS = {
    config_class: sorted(
        {field.name for field in dataclasses.fields(config_class)}
        - {field.name for field in dataclasses.fields(PreTrainedConfig)}
    )
    for config_class in MODELS
}
# Values as a JSON file may hold them
VALUES = st.one_of(
    st.sampled_from([None, True, False, "", "many", "768", "\x1b[31m", [], {}, [16], [16, 16, 16], [0, 0], {"a": 1}]),
    st.sampled_from(
        [0, 1, -1, 2, 3, 7, 0.5, -0.5, 1.0, 1e-300, 1e300, float("nan"), float("inf"), 2**31, 2**63, 10**400]
    ),
    st.sampled_from([[-1, 4], [4, 10**9], [10**9, 10**9], [4.0, 4.0], ["4", "4"], [True, True], "mean", "factorised"]),
    st.integers(-100, 10**12),
    st.floats(),
    st.text(max_size=5),
)
LABELS = st.sampled_from(
    [
        {},
        {"0": "a"},
        {"a": 0},
        {"0": "a", "2": "b"},
        {"-1": "a"},
        {"0": None},
        {"0": "a", "1": "a"},
        {"x": "y"},
        [],
        "ab",
        3,
    ]
)


def own_error(error: Exception) -> str:
    """The message, if it is a sentence for users; else the error goes on."""
    inner = unwrapped(error)
    if isinstance(inner, ValueError | TypeError) or type(inner).__name__.startswith("StrictDataclass"):
        return str(error) + str(inner)
    raise error


@cases(5, data=st.data(), config_class=st.sampled_from(list(MODELS)))
def test_fields(data: st.DataObject, config_class: type[SpectrogramConfig]) -> None:
    fields = [*OWN_FIELDS[config_class], "num_labels", "id2label", "label2id", "problem_type", "auto_map"]
    names = data.draw(st.lists(st.sampled_from(fields), min_size=1, max_size=2, unique=True))
    values = {name: data.draw(LABELS if "2" in name else VALUES, label=name) for name in names}
    base = SIZE | GEOMETRY if config_class is not SSASTConfig else SIZE | GEOMETRY | {"patch_size": (8, 6)}
    settings = base | {"num_labels": 5} | values
    if "id2label" in values:
        settings.pop("num_labels", None)
    try:
        config = config_class(**settings)
    except Exception as error:
        message = own_error(error)
        assert any(name in message for name in [*names, "patch", "labels"]), f"{message!r} names none of {names}"
        return
    with torch.device("meta"):  # what it would take, without taking it
        model = MODELS[config_class](config)
    assert 0 < model.num_parameters() < 3e10
    assert len(model.config.id2label) == model.classifier.linear.out_features
    if model.num_parameters() > 10**6 or config.grid[0] * config.grid[1] > 10**4:
        return
    model = MODELS[config_class](config).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, config.max_length, config.num_mel_bins)).logits
    assert logits.isfinite().all()
    assert config_class(**json.loads(config.to_json_string(use_diff=False))).grid == config.grid


@cases(1, data=st.data())
def test_masking_fields(data: st.DataObject) -> None:
    """A pretraining model masks something, or says why not."""
    names = ["num_mask_patches", "mask_ratio", "mask_clusters", "mask_sampler"]
    names += ["classification_loss_weight", "reconstruction_loss_weight", "time_patchout", "frequency_stride"]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    values = {name: data.draw(VALUES, label=name) for name in chosen}
    settings = SIZE | {"patch_size": (8, 6), "max_length": 50, "num_mel_bins": 32, "num_mask_patches": 5} | values
    try:
        model = SSASTForPreTraining(SSASTConfig(**settings))
        output = model(torch.randn(2, 50, 32))
    except Exception as error:
        message = own_error(error)
        assert any(name in message for name in chosen), f"{message!r} names none of {chosen}"
        return
    assert output.loss.isfinite()


@cases(1, data=st.data())
def test_files(data: st.DataObject, tmp_path: Path) -> None:
    """The same from a config.json, and files that hold something else than an object."""
    content: Any = json.loads(HfASTConfig(**SIZE | GEOMETRY).to_json_string())
    name = data.draw(st.sampled_from(sorted(content)))
    content[name] = data.draw(VALUES, label=name)
    text = data.draw(
        st.sampled_from([json.dumps(content), json.dumps([content]), "3", "null", "", "{", '{"a":' * 5000])
    )
    (tmp_path / "config.json").write_text(text)
    try:
        AutoConfig.from_pretrained(tmp_path)
    except Exception as error:
        if not isinstance(error, OSError | KeyError | AttributeError | RecursionError):
            own_error(error)
