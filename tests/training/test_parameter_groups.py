from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from hf_ast.models.modules_transformer import SpectrogramClassifier
from hf_ast.training.parameter_groups import parameter_groups
from tests.support.tiny import tiny_config, tiny_model, tiny_passt, tiny_ssast

RATE = 1e-3
# Parts of names whose parameters are not decayed: norms, biases, tokens, tables
NOT_DECAYED = ("norm", "bias", "token", "positions", "mask_embedding")


def expected_rate(name: str, *, num_layers: int, layer_decay: float, head_multiplier: float) -> float:
    """The definition, by names: embeddings, layers, final norm, head."""
    if not name.startswith("backbone."):
        return RATE * head_multiplier
    part, number = name.split(".")[1:3]
    if part == "norm":
        return RATE
    num_above = num_layers - int(number) if part == "layers" else num_layers + 1
    return RATE * layer_decay**num_above


@pytest.mark.parametrize("make", [tiny_model, tiny_passt, tiny_ssast])
def test_every_parameter_is_in_one_group_with_its_rate_and_decay(make: Any) -> None:
    model = make(num_hidden_layers=3)
    settings = {"layer_decay": 0.7, "head_multiplier": 10.0}
    groups = parameter_groups(model, RATE, weight_decay=0.05, **settings)
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = found[id(parameter)]
        assert group["lr"] == pytest.approx(expected_rate(name, num_layers=3, **settings)), name
        is_decayed = not any(part in name for part in NOT_DECAYED)
        assert group["weight_decay"] == (0.05 if is_decayed else 0.0), name
        assert group["name"].endswith("not decayed") is not is_decayed
    assert [group["lr"] for group in groups] == sorted(group["lr"] for group in groups)


def test_frozen_parameters_are_left_out_and_the_torch_only_model_has_the_same_groups() -> None:
    model = tiny_model()
    model.backbone.embeddings.requires_grad_(False)
    names = [group["name"] for group in parameter_groups(model, RATE)]
    assert names == [f"{part}, {kind}" for part in ("layers.0", "layers.1") for kind in ("decayed", "not decayed")] + [
        "norm, not decayed",
        "head, decayed",
        "head, not decayed",
    ]

    torch_only = SpectrogramClassifier.from_config(tiny_config().to_dict())
    for ours, theirs in zip(parameter_groups(torch_only, RATE), parameter_groups(tiny_model(), RATE), strict=True):
        assert [p.shape for p in ours.pop("params")] == [p.shape for p in theirs.pop("params")]
        assert ours == theirs


def test_errors_name_the_argument() -> None:
    model = tiny_model()
    for arguments in ({"layer_decay": 0.0}, {"layer_decay": 1.1}, {"head_multiplier": 0.0}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))}="):
            parameter_groups(model, RATE, **arguments)
    with pytest.raises(ValueError, match="model is a Linear without the parts"):
        parameter_groups(nn.Linear(2, 2), RATE)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        parameter_groups(model.requires_grad_(False), RATE)


def test_a_plain_trainer_trains_with_the_groups(tmp_path: Path) -> None:
    model = tiny_model(problem_type="single_label_classification")
    groups = parameter_groups(model, 1e-2, layer_decay=0.5, head_multiplier=10.0, weight_decay=0.1)
    data = [{"input_values": torch.randn(50, 32), "labels": index % 5} for index in range(4)]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, report_to="none", use_cpu=True, save_strategy="no", lr_scheduler_type="linear"
    )
    trainer = Trainer(
        model, arguments, train_dataset=data, optimizer_cls_and_kwargs=(torch.optim.AdamW, {"params": groups})
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer.train()
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert rates["head, decayed"] == pytest.approx(0.1)
    assert rates["embeddings, decayed"] == pytest.approx(1e-2 * 0.5**3)
    # AdamW's first steps are as large as the rate: the largest change of a part is that rate, decayed linearly
    for name, part in (("classifier.linear.weight", "head"), ("backbone.layers.1.norm1.weight", "layers.1")):
        change = (model.get_parameter(name).detach() - before[name]).abs().max().item()
        assert change == pytest.approx(1.5 * rates[f"{part}, not decayed"], rel=0.1)
