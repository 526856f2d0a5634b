"""Scene and timestamp embeddings. That they equal `hear21passt`'s is in the golden cases."""

import numpy as np
import pytest
import torch

from hf_ast import HfASTFeatureExtractor, scene_embeddings, timestamp_embeddings
from hf_ast.inference.embeddings import HEAR_VARIANTS
from tests.support.interpreter import ROOT, run
from tests.support.tiny import passt_extractor, tiny_model, tiny_passt, tiny_ssast, waveforms

RATE = 32000


def one_at_a_time(waveform, window, hop, function):
    """The definition: pad by reflection, cut, embed."""
    padded = torch.nn.functional.pad(waveform[None], (window // 2, window - window // 2), mode="reflect")[0]
    windows = padded.unfold(1, window, hop).transpose(0, 1)
    return torch.stack([function(clips) for clips in windows], dim=1)


def features(model, extractor, clips):
    inputs = extractor(clips, extractor.sampling_rate, return_tensors="pt", padding=False, truncation=False)
    return model.base_model(inputs["input_values"]).pooler_output


@pytest.mark.parametrize("num_samples", [9600, 16001])
@torch.no_grad()
def test_timestamps_are_windows_around_multiples_of_the_hop(num_samples):
    model, extractor = tiny_passt(), passt_extractor()
    waveform = waveforms(3, num_samples)
    embeddings, timestamps = timestamp_embeddings(model, extractor, waveform, batch_size=5)
    expected = one_at_a_time(waveform, 5120, 1600, lambda clips: features(model, extractor, clips))
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)
    assert embeddings.shape == (3, num_samples // 1600 + 1, 32)
    torch.testing.assert_close(timestamps, (50.0 * torch.arange(embeddings.shape[1])).expand(3, -1))


@torch.no_grad()
def test_levels_and_mel_values_are_appended():
    model, extractor = tiny_passt(max_length=80), passt_extractor()
    waveform = waveforms(2, 30000)
    embeddings, _ = timestamp_embeddings(model, extractor, waveform, **HEAR_VARIANTS["base2levelmel"])
    levels = [one_at_a_time(waveform, w, 1600, lambda clips: features(model, extractor, clips)) for w in (5120, 20480)]
    unpadded = {"return_tensors": "pt", "padding": False}
    mel = one_at_a_time(
        waveform, 1920, 1600, lambda clips: extractor(clips, RATE, **unpadded)["input_values"].mT.flatten(1)
    )
    assert mel.shape[2] == 6 * 32
    torch.testing.assert_close(embeddings, torch.cat((*levels, mel), dim=2), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_scene_is_the_whole_clip_or_the_mean_of_windows():
    model, extractor = tiny_passt(), passt_extractor()
    window = extractor.max_samples
    short, long = waveforms(5, window), waveforms(2, 3 * window + 123)
    torch.testing.assert_close(scene_embeddings(model, extractor, short), features(model, extractor, short))
    expected = one_at_a_time(long, window, window // 4, lambda clips: features(model, extractor, clips)).mean(dim=1)
    torch.testing.assert_close(scene_embeddings(model, extractor, long), expected, atol=1e-5, rtol=1e-5)
    other = scene_embeddings(model, extractor, long, window_s=0.3, hop_s=0.2)
    expected = one_at_a_time(long, 9600, 6400, lambda clips: features(model, extractor, clips)).mean(dim=1)
    torch.testing.assert_close(other, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_modes():
    model, extractor = tiny_passt(), passt_extractor()
    waveform = waveforms(2, 12000)
    pooled, logits, both = (
        scene_embeddings(model, extractor, waveform, mode=m) for m in ("features", "logits", "all")
    )
    torch.testing.assert_close(logits, model.classifier(pooled))
    torch.testing.assert_close(both, torch.cat((logits, pooled), dim=1))
    torch.testing.assert_close(scene_embeddings(model.backbone, extractor, waveform), pooled)
    with pytest.raises(ValueError, match=r"window_s=0.8 is longer than the extractor's max_length of 50 frames"):
        scene_embeddings(model, extractor, waveform, window_s=0.8)
    with pytest.raises(ValueError, match="needs logits, but PaSSTModel has none"):
        scene_embeddings(model.backbone, extractor, waveform, mode="all")


@torch.no_grad()
def test_ast_too():
    """A window of 160 ms has 14 frames there, and is padded where a patch is longer."""
    for patch_size in ((8, 6), (8, 16)):
        model, extractor = tiny_model(patch_size=patch_size), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
        waveform = waveforms(2, 16000)
        embeddings, _ = timestamp_embeddings(model, extractor, waveform)
        assert embeddings.shape == (2, 21, 32)
        window = waveform[:, 8000 - 1280 : 8000 + 1280]
        inputs = extractor(window, 16000, return_tensors="pt", max_length=max(14, patch_size[1]))
        torch.testing.assert_close(embeddings[:, 10], model.backbone(**inputs).pooler_output, atol=1e-5, rtol=1e-5)
        inputs = extractor(waveform[:, :4000], 16000, return_tensors="pt")  # padded to max_length, as in training
        expected = model.backbone(**inputs).pooler_output
        torch.testing.assert_close(scene_embeddings(model, extractor, waveform[:, :4000]), expected)


@torch.no_grad()
def test_ssast_too():
    model, extractor = tiny_ssast(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    waveform = waveforms(2, 8000)
    embeddings, _ = timestamp_embeddings(model, extractor, waveform, hop_s=0.25)
    inputs = extractor(waveform[:, 2720:5280], 16000, return_tensors="pt", max_length=14)
    torch.testing.assert_close(embeddings[:, 1], model.backbone(**inputs).pooler_output, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_batches_do_not_matter_and_numpy_is_welcome():
    model, extractor = tiny_passt(), passt_extractor()
    waveform = waveforms(2, 20000)
    expected, _ = timestamp_embeddings(model, extractor, waveform)
    for batch_size in (1, 7, 1000):
        embeddings, _ = timestamp_embeddings(model, extractor, waveform, batch_size=batch_size)
        torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)
    single, _ = timestamp_embeddings(model, extractor, waveform[0].numpy())
    torch.testing.assert_close(single, expected[:1], atol=1e-5, rtol=1e-5)


def test_eval_mode_for_the_call():
    model, extractor = tiny_passt(time_patchout=2, unstructured_patchout=4).train(), passt_extractor()
    waveform = waveforms(1, 12000)
    embeddings = scene_embeddings(model, extractor, waveform)
    assert model.training
    assert model.backbone.layers[0].training
    assert not embeddings.requires_grad
    torch.testing.assert_close(embeddings, scene_embeddings(model.eval(), extractor, waveform))


@pytest.mark.parametrize(
    ("waveform", "settings", "message"),
    [
        (waveforms(1, 9600), {"mode": "embedding"}, "mode='embedding' is unknown"),
        (waveforms(1, 9600), {"window_s": ()}, "window_s is empty"),
        (waveforms(1, 9600), {"hop_s": 0.0}, "hop_s=0.0 must be at least one sample"),
        (waveforms(1, 9600)[None], {}, r"shape \(1, 1, 9600\)"),
        (torch.zeros(1, 9600, dtype=torch.int16), {}, "divide 16-bit samples"),
    ],
)
def test_errors(waveform, settings, message):
    with pytest.raises(ValueError, match=message):
        timestamp_embeddings(tiny_passt(), passt_extractor(), waveform, **settings)


MEMORY = """
import resource, sys
import torch
from tests.support.tiny import passt_extractor, tiny_passt
from hf_ast import scene_embeddings, timestamp_embeddings

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "linux" else 1024) / 1024

torch.set_num_threads(1)
model, extractor = tiny_passt(), passt_extractor()
waveform = 0.1 * torch.randn(1, 600 * 32000)
peaks = []
for seconds in (30, 600):
    clip = waveform[:, : seconds * 32000]
    result, _ = timestamp_embeddings(model, extractor, clip, hop_s=0.5)
    scene_embeddings(model, extractor, clip, hop_s=1.0)
    peaks.append(peak_mb())
print(peaks[1] - peaks[0])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording():
    """A copy of the 10 minutes would be 73 MB."""
    assert float(run(MEMORY, cwd=ROOT)) < 20


def test_recordings_are_not_changed():
    waveform = np.random.default_rng(0).standard_normal(12000).astype(np.float32) * 0.1
    before = waveform.copy()
    timestamp_embeddings(tiny_passt(), passt_extractor(), waveform)
    np.testing.assert_array_equal(waveform, before)
