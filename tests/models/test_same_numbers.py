"""The same logits by every way to compute them, and finite ones in half precision from extreme inputs.

Exported graphs are in `test_model_export.py` (1e-6), files in `tests/export` (1e-4), bfloat16 in `test_fast.py`.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.classifiers import FAMILIES, tiny_classifier
from tests.support.tiny import spectrograms

LENGTHS = torch.tensor([50, 31, 20])


def other_attention(name: str) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    def run(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        model.set_attn_implementation(name)
        return model(**batch).logits

    return run


def compiled(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    torch._dynamo.reset()
    return torch.compile(model, fullgraph=True)(**batch).logits


# Each against sdpa: the largest difference of logits, in float32. They are about 10 in size, and each way adds up in
# an order of its own, so that a few units in the last place (1e-6) are left after two layers
WAYS = {
    "eager": (other_attention("eager"), 1e-5),
    "per_head": (other_attention("per_head"), 1e-5),
    "flex": (other_attention("flex_attention"), 1e-5),
    "compiled": (compiled, 1e-5),
}
GENERATES_CODE = ("flex", "compiled")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow if way in GENERATES_CODE else ()) for way in WAYS]
)
@torch.no_grad()
def test_every_way_gives_the_same_logits(way: str, masked: bool, family: str) -> None:
    model, _ = tiny_classifier(family)
    batch = {"input_values": spectrograms(3, 50)}
    if masked:
        batch["attention_mask"] = (torch.arange(50) < LENGTHS[:, None]).long()
    model.set_attn_implementation("sdpa")
    expected = model(**batch).logits
    assert expected.abs().max() > 0.1
    compute, tolerance = WAYS[way]
    torch.testing.assert_close(compute(model, batch), expected, atol=tolerance, rtol=0)


SQUARE_WAVE = np.sign(np.sin(2 * np.pi * 100 * np.arange(16000) / 16000) + 1e-3).astype(np.float32)
WAVEFORMS = {"silence": np.zeros(16000, dtype=np.float32), "full-scale square wave": SQUARE_WAVE}


@pytest.mark.parametrize("family", [*FAMILIES, "keywords"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sdpa", "eager", "per_head"])
@torch.no_grad()
def test_half_precision_stays_finite(attention: str, dtype: torch.dtype, family: str) -> None:
    model, extractor = tiny_classifier(family)
    inputs = {
        name: extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        for name, clip in WAVEFORMS.items()
    }
    shape = inputs["silence"]["input_values"].shape
    inputs |= {f"{value:g}": {"input_values": torch.full(shape, value)} for value in (1e4, -1e4)}
    model.to(dtype).set_attn_implementation(attention)
    for name, batch in inputs.items():
        logits = model(input_values=batch["input_values"].to(dtype)).logits
        assert logits.dtype == dtype
        assert logits.isfinite().all(), name
