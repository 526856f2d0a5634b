"""Ragged clips on their way into a model: through the data collator, the Trainer and transformers' example script."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from hf_ast import HfASTFeatureExtractor, PaSSTFeatureExtractor
from tests.support.tiny import tiny_model, tiny_passt, waveforms

FAMILIES = {"ast": (tiny_model, HfASTFeatureExtractor), "passt": (tiny_passt, PaSSTFeatureExtractor)}
LENGTHS_S = (0.45, 0.2, 0.31, 0.1, 0.39, 0.26, 0.15, 0.45)


def family(name: str, **settings: Any) -> tuple[nn.Module, Any]:
    make_model, make_extractor = FAMILIES[name]
    return make_model(), make_extractor(num_mel_bins=32, max_length=50, **settings)


def clips(extractor: Any) -> list[np.ndarray]:
    rate = extractor.sampling_rate
    return [waveforms(1, int(s * rate), seed)[0].numpy() for seed, s in enumerate(LENGTHS_S)]


def example_script(extractor: Any) -> list[dict[str, Any]]:
    """Rows as transformers' examples/pytorch/audio-classification/run_audio_classification.py makes them."""
    model_input_name = extractor.model_input_names[0]
    inputs = extractor(clips(extractor), sampling_rate=extractor.sampling_rate)
    output_batch = {model_input_name: inputs.get(model_input_name)}
    output_batch["labels"] = [index % 5 for index in range(len(LENGTHS_S))]
    return [
        {model_input_name: values, "labels": label}
        for values, label in zip(output_batch[model_input_name], output_batch["labels"], strict=True)
    ]


def unpadded(extractor: Any, **arguments: Any) -> list[dict[str, Any]]:
    """One call for each clip, as in a data set that extracts when it is read."""
    rows = []
    for index, clip in enumerate(clips(extractor)):
        features = extractor(clip, extractor.sampling_rate, padding=False, **arguments)
        rows.append({name: values[0] for name, values in features.items()} | {"label": index % 5})
    return rows


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("arguments", [{}, {"return_attention_mask": True}, {"return_tensors": "pt"}])
@torch.no_grad()
def test_a_collated_batch_equals_its_clips(name: str, arguments: dict[str, Any]) -> None:
    model, extractor = family(name)
    rows = unpadded(extractor, **arguments)
    batch = DataCollatorWithPadding(extractor)(rows)
    assert batch["attention_mask"].sum(1).tolist() == [len(row["input_values"]) for row in rows]
    logits = model(**batch).logits
    for row, collated in zip(rows, logits, strict=True):
        alone = model(torch.as_tensor(row["input_values"])[None]).logits[0]
        torch.testing.assert_close(collated, alone, atol=1e-5, rtol=1e-5)  # sums of other lengths, in float32


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("attention_mask", [False, True])
@torch.no_grad()
def test_the_example_script_gives_what_one_call_gives(name: str, attention_mask: bool) -> None:
    """The script drops the mask; `attention_mask` is its option, and the extractor's `return_attention_mask`."""
    model, extractor = family(name, return_attention_mask=attention_mask)
    collated = model(**DataCollatorWithPadding(extractor)(example_script(extractor))).logits
    batch = extractor(clips(extractor), extractor.sampling_rate, return_tensors="pt")
    torch.testing.assert_close(collated, model(**batch).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_accumulated_gradients_of_ragged_clips(name: str, tmp_path: Path) -> None:
    """Weights after one step of the Trainer: 8 clips at once, and 4 times 2, padded differently."""
    weights = []
    for batch_size, steps in ((8, 1), (2, 4)):
        model, extractor = family(name)
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
            max_steps=1,
            learning_rate=0.1,
            optim="sgd",
            max_grad_norm=0.0,
            lr_scheduler_type="constant",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(model, arguments, train_dataset=unpadded(extractor), processing_class=extractor).train()
        weights.append({name: parameter.detach() for name, parameter in model.named_parameters()})
    together, accumulated = weights
    initial = dict(family(name)[0].named_parameters())
    assert max((together[key] - initial[key]).abs().max() for key in together) > 1e-3
    for key, expected in together.items():
        torch.testing.assert_close(accumulated[key], expected, atol=1e-6, rtol=1e-5, msg=key)


@pytest.mark.parametrize("name", FAMILIES)
def test_pad_makes_a_mask_where_it_is_needed(name: str) -> None:
    _, extractor = family(name)
    same, longer = np.zeros((20, 32), np.float32), np.ones((30, 32), np.float32)
    rows = [{"input_values": same}, {"input_values": same}]
    assert set(extractor.pad(rows, return_tensors="pt")) == {"input_values"}
    assert extractor.pad(rows, pad_to_multiple_of=8)["attention_mask"][0].tolist() == [1] * 20 + [0] * 4
    assert extractor.pad(rows, padding="max_length", max_length=21)["attention_mask"][1].tolist() == [1] * 20 + [0]
    ragged = extractor.pad({"input_values": [same, longer]}, return_tensors="np")
    assert ragged["attention_mask"].sum(1).tolist() == [20, 30]
    np.testing.assert_array_equal(ragged["input_values"][0, 20:], np.float32(extractor.padding_value))
    without = extractor.pad([rows[0], {"input_values": longer}], return_tensors="pt", return_attention_mask=False)
    assert set(without) == {"input_values"}
    masked = [{**row, "attention_mask": [1] * 12 + [0] * 8} for row in rows]
    assert extractor.pad(masked, return_tensors="pt")["attention_mask"].sum(1).tolist() == [12, 12]
    assert set(extractor.pad(masked, return_tensors="pt", return_attention_mask=False)) == {"input_values"}
    assert extractor.pad(masked[0] | {"input_values": [same], "attention_mask": [[1] * 20]})["input_values"][
        0
    ].shape == (20, 32)
    with pytest.raises(ValueError, match="attention_mask comes with 1 of 2 clips"):
        extractor.pad([rows[0], masked[0]])


def test_only_padding_without_tensors_depends_on_the_mask() -> None:
    """What a call gives by default: (return_tensors, return_attention_mask) -> padded to which frames."""
    for name, settings, frames in (
        ("ast", {}, {None: [50, 50], "np": [50, 50]}),
        ("ast", {"return_attention_mask": True}, {None: [43, 18], "np": [50, 50]}),
        ("passt", {}, {None: [45, 20], "np": [45, 45]}),
        ("passt", {"return_attention_mask": True}, {None: [45, 20], "np": [45, 45]}),
    ):
        _, extractor = family(name, **settings)
        for return_tensors, expected in frames.items():
            result = extractor(clips(extractor)[:2], extractor.sampling_rate, return_tensors)
            assert [len(item) for item in result["input_values"]] == expected, (name, settings, return_tensors)
