"""Devices, precision and batch sizes of what takes a model."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from transformers import pipeline

import hf_ast
from hf_ast import StreamTagger, scene_embeddings, score_clips, tag, timestamp_embeddings
from hf_ast.choices import DType
from hf_ast.inference.devices import default_batch_size, find_device, find_dtype, running
from hf_ast.models.modules_classification import classification_loss
from hf_ast.training.devices import device_arguments
from hf_ast.training.statistics import feature_statistics
from tests.support.accelerator import DEVICE, accelerator
from tests.support.classifiers import FAMILIES, tiny_classifier
from tests.support.tiny import tiny_ssast, waveforms

# Largest difference of a score or of a unit embedding: half of the last of 8 bits, and of 11, times a dozen
# roundings one after the other in two layers
TOLERANCES = {"bfloat16": 0.05, "float16": 0.01}
# SSAST's classifier runs the code of AST's, except for its pooling
TWO_FAMILIES = ["ast", "passt", pytest.param("ssast", marks=pytest.mark.slow)]


def streamed(model: Any, extractor: Any, waveform: torch.Tensor, **settings: Any) -> torch.Tensor:
    stream = StreamTagger(model, extractor, hop_s=0.1, **settings)
    return torch.stack([window.scores for window in [*stream.push(waveform.numpy()), *stream.flush()]])


def piped(model: Any, extractor: Any, waveform: torch.Tensor, task: str = "audio-tagging", **settings: Any) -> Any:
    settings = {name: value for name, value in settings.items() if name != "device"}
    run = pipeline(task, model=model, feature_extractor=extractor, device=model.device)
    found = run(waveform.numpy(), chunk_length_s=0.3, top_k=None, **settings)
    rows = found["scores"] if task == "audio-tagging" else found
    return torch.tensor([row["score"] for row in sorted(rows, key=lambda row: row["label"])])


FUNCTIONS: dict[str, Any] = {
    "tag": lambda m, e, w, **s: tag(m, e, w.numpy(), hop_s=0.1, **s).window_scores,
    "stream": streamed,
    "clips": lambda m, e, w, **s: score_clips(m, e, [w[:6000].numpy(), w[:8000].numpy()], **s),
    "scene": lambda m, e, w, **s: torch.nn.functional.normalize(scene_embeddings(m, e, w, **s)),
    "moments": lambda m, e, w, **s: torch.nn.functional.normalize(timestamp_embeddings(m, e, w, **s)[0], dim=-1),
}


@pytest.mark.parametrize("family", TWO_FAMILIES)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_half_precision_is_close(family: str, function: str, dtype: str) -> None:
    """By the weights of the model, and by autocast, which leaves the weights as they are."""
    model, extractor = tiny_classifier(family)
    run, waveform = FUNCTIONS[function], waveforms(1, 20000)[0]
    expected = run(model, extractor, waveform)
    cast = run(model, extractor, waveform, dtype=dtype, device="cpu")
    assert cast.dtype == torch.float32
    assert not torch.equal(cast, expected)
    torch.testing.assert_close(run(model, extractor, waveform), expected, rtol=0, atol=0)
    found = run(model.to(find_dtype(dtype)), extractor, waveform, batch_size=2)
    for values in (cast, found):
        torch.testing.assert_close(values, expected, rtol=0, atol=TOLERANCES[dtype])
    with pytest.raises(ValueError, match=f"but the model holds {dtype}; load it with that dtype"):
        run(model, extractor, waveform, dtype="float32")


@pytest.mark.parametrize("family", TWO_FAMILIES)
@pytest.mark.parametrize("function", [*FUNCTIONS, "audio-tagging", "audio-classification"])
def test_everything_runs_on_the_device_and_a_waveform_goes_there_once(
    family: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = FUNCTIONS.get(function) or (lambda m, e, w, **s: piped(m, e, w, function, **s))
    waveform = waveforms(1, 20000)[0]
    expected = run(*tiny_classifier(family), waveform)
    with accelerator(monkeypatch) as seen:
        model, extractor = tiny_classifier(family)
        model.to(DEVICE)
        run(model, extractor, waveform, device=DEVICE)  # the filters of the front end are made
        before, host = len(seen.to_device), len(seen.to_host)
        found = run(model, extractor, waveform, device=DEVICE)
    assert seen.on_cpu == set()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert sum(seen.to_device[before:]) <= sent(function, len(waveform), extractor), seen.to_device[before:]
    # Back come results, and a peak per call of the front end
    assert sum(seen.to_host[host:]) < 0.2 * len(waveform) + found.numel()


def sent(function: str, num_samples: int, extractor: Any) -> int:
    """Samples that may go to the device; small numbers beside them are indices."""
    if function == "clips":
        return 14000
    # Pieces of a stream overlap by a part of a window; pipelines send windows, which overlap by a third
    overlap = 2.0 if function in ("tag", "stream") or "audio" in function else 1.0
    return round(overlap * num_samples) + 1000


def test_batches_are_larger_on_an_accelerator() -> None:
    assert default_batch_size(torch.device("cpu"), 4) == 4
    assert default_batch_size(torch.device("cuda"), 4) == 16


def test_names_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_device("cpu:0") == torch.device("cpu")
    with accelerator(monkeypatch):
        kind = DEVICE.type
        assert find_device(None) == torch.device(kind)
        assert find_device(f"{kind}:0") == DEVICE
        with pytest.raises(ValueError, match=f"device='{kind}:3': this machine has 1 {kind.upper()} device, counted"):
            find_device(f"{kind}:3")
        with pytest.raises(ValueError, match=f"has no XPU device; choose '{kind}' or 'cpu'"):
            find_device("xpu")
        with pytest.raises(ValueError, match="names one of several accelerators"):
            device_arguments(f"{kind}:0")
        assert device_arguments(kind, "float16") == {"use_cpu": False, "bf16": False, "fp16": True}
    assert device_arguments("cpu", "bfloat16") == {"use_cpu": True, "bf16": True, "fp16": False}
    with pytest.raises(ValueError, match="dtype='float16' trains on accelerators only"):
        device_arguments("cpu", "float16")
    with pytest.raises(
        ValueError, match=r"dtype='int8' is unknown; choose one of \('float32', 'bfloat16', 'float16'\)"
    ):
        find_dtype("int8")


@pytest.mark.parametrize("dtype", get_args(DType))
def test_a_model_loads_in_the_dtype_that_is_asked_for(dtype: str, tmp_path: Path) -> None:
    model, extractor = tiny_classifier("ast")
    model.to(torch.float16).save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    assert hf_ast.load_classifier(tmp_path)[0].dtype == torch.float32  # whatever the file has
    assert hf_ast.load_encoder(tmp_path, dtype=dtype)[0].dtype == getattr(torch, dtype)


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "single_label_classification", "regression"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_computed_in_float32(problem_type: str, dtype: torch.dtype) -> None:
    """The sum of 30,000 terms of 40 is beyond float16, and 8 bits do not add up to it."""
    logits = torch.full((100, 300), 40.0, dtype=dtype, requires_grad=True)
    labels = torch.zeros(100, 300)
    if problem_type == "single_label_classification":
        labels[:, 0] = 1.0
    loss = classification_loss(logits, labels, problem_type, num_items_in_batch=30000)
    expected = classification_loss(logits.float(), labels, problem_type, num_items_in_batch=30000)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_pretraining_is_finite_and_close_in_half_precision(dtype: str) -> None:
    model, values = tiny_ssast(), waveforms(3, 50 * 32).view(3, 50, 32) * 10
    mask = torch.ones(3, 50, dtype=torch.long)
    mask[1, 30:] = 0
    indices = torch.arange(10).expand(3, -1)
    expected = model(values, attention_mask=mask, mask_indices=indices)
    found = model.to(find_dtype(dtype))(values, attention_mask=mask, mask_indices=indices)
    for name in ("loss", "classification_loss", "reconstruction_loss"):
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected[name], rtol=TOLERANCES[dtype], atol=0)
    found.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("attention", ["eager", "sdpa", "per_head"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_masks_and_merging_are_finite_in_half_precision(attention: str, family: str, dtype: str) -> None:
    model, _ = tiny_classifier(family)
    model.set_attn_implementation(attention)
    values, mask = waveforms(2, 50 * 32).view(2, 50, 32) * 10, torch.ones(2, 50, dtype=torch.long)
    mask[1, 20:] = 0
    with torch.no_grad():
        expected = model(values, attention_mask=mask).logits
        model.to(find_dtype(dtype))
        masked = model(values, attention_mask=mask).logits
        model.config.token_merging = 0.25
        merged = model(values).logits
    assert masked.isfinite().all()
    assert merged.isfinite().all()
    scale = expected.abs().max()
    torch.testing.assert_close(masked.float() / scale, expected / scale, rtol=0, atol=TOLERANCES[dtype])


def test_statistics_run_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    _, extractor = tiny_classifier("ast")
    clips = [clip.numpy() for clip in waveforms(3, 8000)]
    expected = feature_statistics(extractor, clips)
    with accelerator(monkeypatch) as seen:
        assert feature_statistics(extractor, clips, device=DEVICE) == pytest.approx(expected, rel=1e-6)
    assert seen.on_cpu == set()
    assert seen.modules["KaldiFbank"] == 3


def test_modes_are_restored_and_the_precision_ends_with_the_block() -> None:
    model, _ = tiny_classifier("ast")
    model.train()
    with running(model, "bfloat16"):
        assert not model.training
        assert torch.is_autocast_enabled("cpu")
    assert model.training
    assert not torch.is_autocast_enabled("cpu")
    assert model.dtype == torch.float32
    np.testing.assert_equal(model.num_labels, 5)
