"""The fast setting against float32: on the embedded model's recordings and held-out synthetic clips."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import ASTConfig, ASTForAudioClassification

from hf_ast import load_classifier, prepare_fast, score_clips
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.inference import fast
from hf_ast.recipes.keywords.clips import HeldOutClip, held_out_clips
from tests.support.tiny import spectrograms, tiny_model

BFLOAT16, INT8 = 0.02, 0.04  # of the range of the logits, as `prepare_fast` promises


@cache
def clips(num_per_class: int = 4) -> tuple[HeldOutClip, ...]:
    return tuple(held_out_clips(num_per_class))


def logits(model: torch.nn.Module, extractor: Callable[..., dict[str, Tensor]], num_per_class: int) -> Tensor:
    features = extractor([clip.waveform for clip in clips(num_per_class)], sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        return model(features["input_values"].to(model.dtype)).logits.float()


@pytest.mark.parametrize(
    ("precision", "tolerance", "num_per_class"),
    [
        ("bfloat16", BFLOAT16, 4),
        pytest.param("bfloat16", BFLOAT16, 20, marks=pytest.mark.slow),
        pytest.param("int8", INT8, 20, marks=pytest.mark.quant),
    ],
)
def test_labels_agree_and_logits_stay_within_the_stated_tolerance(
    precision: str, tolerance: float, num_per_class: int
) -> None:
    model, extractor = load_classifier(EMBEDDED_MODEL)
    expected = logits(model, extractor, num_per_class)
    found = logits(prepare_fast(model, precision=precision), extractor, num_per_class)
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() >= 0.995
    spread = expected.amax(-1) - expected.amin(-1)
    assert ((found - expected).abs().amax(-1) / spread).quantile(0.99) < tolerance


def test_load_classifier_fast() -> None:
    model, extractor = load_classifier(EMBEDDED_MODEL, fast=True)
    plain, _ = load_classifier(EMBEDDED_MODEL)
    waveforms = [clip.waveform for clip in clips()[::8]]
    scores, expected = score_clips(model, extractor, waveforms), score_clips(plain, extractor, waveforms)
    torch.testing.assert_close(scores, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("has_units", "bfloat16_s", "expected"),
    [(True, 1.0, "bfloat16"), (True, 2.5, "float32"), (True, 1.9, "float32"), (False, 1.0, "float32")],
)
def test_bfloat16_is_chosen_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, has_units: bool, bfloat16_s: float, expected: str
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has_units)
    monkeypatch.setattr(fast, "_product_s", {torch.float32: 2.0, torch.bfloat16: bfloat16_s}.__getitem__)
    fast._cpu_multiplies_bfloat16_faster.cache_clear()
    try:
        assert fast.fastest_precision(torch.device("cpu")) == expected
        model = prepare_fast(tiny_model())
        assert model.dtype == getattr(torch, expected)
        assert model.config._attn_implementation == ("per_head" if expected == "bfloat16" else "sdpa")
    finally:
        fast._cpu_multiplies_bfloat16_faster.cache_clear()


@pytest.mark.slow
def test_compiled_once_for_one_shape() -> None:
    torch._dynamo.reset()
    model, inputs = tiny_model(), spectrograms(2, 50)
    with torch.no_grad():
        expected = model(inputs).logits
        compiled = prepare_fast(model, precision="float32", compiled=True)
        torch.testing.assert_close(compiled(inputs).logits, expected, atol=1e-5, rtol=0)


def test_what_cannot_be_prepared() -> None:
    with pytest.raises(ValueError, match="precision='half' is unknown"):
        prepare_fast(tiny_model(), precision="half")
    with pytest.raises(ValueError, match=r"token_merging=0\.7 must be in"):
        prepare_fast(tiny_model(), token_merging=0.7)
    config = ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with pytest.raises(ValueError, match="ASTForAudioClassification"):
        prepare_fast(ASTForAudioClassification(config))
