"""LoRA by peft on every family, with the names that docs/training-parts.md gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Trainer, TrainingArguments

from hf_ast import SSASTForAudioClassification
from hf_ast.training.parameter_groups import parameter_groups
from tests.support.tiny import randomize, spectrograms, tiny_model, tiny_passt, tiny_ssast_config

TARGETS = ["qkv", "proj", "fc1", "fc2"]


def tiny_ssast_classifier() -> SSASTForAudioClassification:
    return randomize(SSASTForAudioClassification(tiny_ssast_config(num_labels=5)))


@pytest.mark.parametrize("make", [tiny_model, tiny_ssast_classifier, tiny_passt])
def test_an_adapter_trains_saves_loads_and_merges_to_equal_logits(make: Callable[[], Any], tmp_path: Path) -> None:
    base = make()
    base.config.problem_type = "single_label_classification"
    base.save_pretrained(tmp_path / "base")
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    config = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, modules_to_save=["classifier"])
    model = get_peft_model(base, config)
    adapted = {name.rpartition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    assert len(adapted) == 4 * base.config.num_hidden_layers
    assert {name.rpartition(".")[2] for name in adapted} == set(TARGETS)

    inputs = spectrograms(4, 50)
    data = [{"input_values": clip, "labels": number} for number, clip in enumerate(inputs)]
    arguments = TrainingArguments(
        str(tmp_path / "run"),
        max_steps=3,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=True,
        gradient_checkpointing=True,
    )
    groups = parameter_groups(model, 0.05, layer_decay=0.9, head_multiplier=2.0, weight_decay=0.01)
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    trainer = Trainer(
        model, arguments, train_dataset=data, optimizer_cls_and_kwargs=(torch.optim.AdamW, {"params": groups})
    )
    trainer.train()

    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False).eval()  # else it computes in bf16
    with torch.no_grad():
        logits = model(input_values=inputs).logits
    model.save_pretrained(tmp_path / "adapter")
    fresh = type(base).from_pretrained(tmp_path / "base")
    for name, tensor in fresh.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)  # the base was not trained
    with torch.no_grad():
        assert (fresh(inputs).logits - logits).abs().max() > 0.1
        loaded = PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
        torch.testing.assert_close(loaded(input_values=inputs).logits, logits, atol=0, rtol=0)
        merged = loaded.merge_and_unload()
        # The sum of two products against the product of a sum, in float32 through two layers
        torch.testing.assert_close(merged(inputs).logits, logits, atol=1e-4, rtol=1e-4)
    assert type(merged) is type(base)
    merged.save_pretrained(tmp_path / "merged")
    with torch.no_grad():
        again = type(base).from_pretrained(tmp_path / "merged")(inputs).logits
        torch.testing.assert_close(again, merged(inputs).logits, atol=0, rtol=0)
