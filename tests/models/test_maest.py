"""MAEST: its front end, and its models in both layouts. The official numbers are in the golden cases."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim
from transformers import AutoFeatureExtractor, pipeline
from transformers.audio_utils import mel_filter_bank

import hf_ast
from hf_ast import (
    HfASTForAudioClassification,
    MAESTFeatureExtractor,
    MAESTLogMel,
    load_classifier,
    load_encoder,
    scene_embeddings,
    tag,
    timestamp_embeddings,
)
from hf_ast.conversion import convert_checkpoint
from hf_ast.conversion.registry import find
from hf_ast.data.labelled import read_data
from hf_ast.export import export_model
from hf_ast.models.modules_maest_mel import FRAMES_PER_SEGMENT, MEAN, STD, maest_log_mel, slaney_mel_filters
from hf_ast.training.finetune import finetune
from tests.support.interpreter import run
from tests.support.labelled import write_folder
from tests.support.native import MAEST_FRONT_END, logits, native_maest, write_front_end
from tests.support.official_files import small_content
from tests.support.tiny import waveforms

RATE = 16000
TINY = {768: 48, 2304: 144, 3072: 192}
CHANGES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192}


def by_definition(waveform: torch.Tensor) -> torch.Tensor:
    """The spectrogram by `torch.stft` and the filters of transformers, in double precision."""
    window = torch.hann_window(512, periodic=True, dtype=torch.float64)
    spectrum = torch.stft(
        waveform.double(), 512, 256, 512, window, center=True, pad_mode="constant", return_complex=True
    )
    filters = mel_filter_bank(257, 96, 0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return torch.log10(1 + 10000 * torch.as_tensor(filters.T) @ spectrum.abs().square()).mT


# --- Front end


@pytest.mark.parametrize(("num_mel_bins", "n_fft", "rate"), [(96, 512, 16000), (40, 1024, 44100), (12, 128, 1600)])
def test_filters_are_those_of_transformers(num_mel_bins: int, n_fft: int, rate: int) -> None:
    expected = mel_filter_bank(n_fft // 2 + 1, num_mel_bins, 0, rate / 2, rate, norm="slaney", mel_scale="slaney")
    ours = slaney_mel_filters(num_mel_bins, n_fft, rate)
    np.testing.assert_allclose(ours, expected.T, atol=1e-8)
    centres = MAESTLogMel(num_mel_bins=num_mel_bins, n_fft=n_fft, sampling_rate=rate).filter_bank.centres_hz
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    heights = ours[num_mel_bins - 1].double()
    assert abs(centres[-1] - bins[heights.argmax()]) <= rate / n_fft


@pytest.mark.parametrize("num_samples", [1, 255, 256, 257, 512, 80000, FRAMES_PER_SEGMENT * 256 + 700])
def test_features_are_those_of_the_definition_at_any_length(num_samples: int) -> None:
    waveform = waveforms(2, num_samples)
    features = maest_log_mel(waveform)
    assert features.shape == (2, num_samples // 256 + 1, 96)
    torch.testing.assert_close(features.double(), by_definition(waveform), atol=1e-5, rtol=0)
    torch.testing.assert_close(maest_log_mel(waveform.double()), by_definition(waveform), atol=1e-6, rtol=0)


def test_other_logarithms() -> None:
    waveform = waveforms(1, 8000)
    energies = maest_log_mel(waveform, log_compression=None)
    torch.testing.assert_close(maest_log_mel(waveform, log_compression="log"), energies.log(), atol=1e-5, rtol=0)
    torch.testing.assert_close(maest_log_mel(waveform), (1 + 10000 * energies).log10(), atol=1e-6, rtol=0)
    for build in (MAESTLogMel, MAESTFeatureExtractor):
        with pytest.raises(ValueError, match="log_compression='ln' is unknown"):
            build(log_compression="ln")
    with pytest.raises(ValueError, match="n_fft=511 must be even"):
        MAESTFeatureExtractor(n_fft=511)


def test_clips_are_padded_with_zeros_before_the_normalisation_and_cut_after_the_transform() -> None:
    extractor = MAESTFeatureExtractor(max_length=20)
    long, short = waveforms(1, 9000)[0], waveforms(1, 2000, seed=1)[0]
    batch = extractor([long, short], RATE, return_tensors="pt")
    assert batch.keys() == {"input_values"}
    expected = (by_definition(torch.stack((long,)))[0, :20] - MEAN) / (2 * STD)
    torch.testing.assert_close(batch["input_values"][0].double(), expected, atol=1e-5, rtol=0)
    expected = torch.zeros(20, 96, dtype=torch.float64)
    expected[:8] = by_definition(short[None])[0]
    torch.testing.assert_close(batch["input_values"][1].double(), (expected - MEAN) / (2 * STD), atol=1e-5, rtol=0)
    with_mask = extractor([long, short], RATE, return_tensors="pt", padding="longest")
    assert with_mask["attention_mask"].sum(1).tolist() == [20, 8]
    assert torch.equal(with_mask["input_values"], batch["input_values"])


def test_a_window_is_as_long_as_the_frames_are_apart() -> None:
    for frames, seconds in ((316, 5.04), (626, 10.0), (1256, 20.08), (1876, 30.0)):
        extractor = MAESTFeatureExtractor(max_length=frames)
        assert extractor.max_samples / RATE == pytest.approx(seconds)
        assert extractor.num_frames(extractor.max_samples) == frames
        assert extractor.num_frames(extractor.max_samples - 1) == frames - 1


def test_settings_survive_saving_and_unused_official_ones_have_no_effect(tmp_path: Path) -> None:
    ours = MAESTFeatureExtractor(max_length=40, padding_value=0.0, return_attention_mask=True, log_compression="log")
    ours.save_pretrained(tmp_path)
    assert AutoFeatureExtractor.from_pretrained(tmp_path).to_dict() == ours.to_dict()
    write_front_end(
        tmp_path, MAEST_FRONT_END | {"padding_value": 5.0, "padding_side": "left", "return_attention_mask": True}
    )
    official = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert official.to_dict() == MAESTFeatureExtractor(max_length=316).to_dict() | {
        "auto_map": MAEST_FRONT_END["auto_map"]
    }
    assert official.padding_value == pytest.approx(-MEAN / (2 * STD))


@pytest.mark.parametrize("trust_remote_code", [None, False, True])
def test_the_code_of_an_official_folder_is_not_run(trust_remote_code: bool | None, tmp_path: Path) -> None:
    write_front_end(tmp_path, MAEST_FRONT_END)
    marker = tmp_path / "run"
    (tmp_path / "feature_extraction_maest.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path, trust_remote_code=trust_remote_code)
    assert type(extractor) is MAESTFeatureExtractor
    assert not marker.exists()


@pytest.mark.slow
def test_a_saved_front_end_opens_by_remote_code(tmp_path: Path) -> None:
    MAESTFeatureExtractor(max_length=40).save_pretrained(tmp_path)
    waveform = waveforms(1, 5000)[0].numpy()
    np.save(tmp_path / "clip.npy", waveform)
    code = f"""
import numpy as np
from transformers import AutoFeatureExtractor
extractor = AutoFeatureExtractor.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)
clip = np.load({str(tmp_path / "clip.npy")!r})
np.save({str(tmp_path / "features.npy")!r}, extractor(clip, {RATE}, return_tensors="np")["input_values"])
print("hf_ast" in sys.modules)
"""
    environment = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}
    assert run(code, without=("hf_ast",), env=environment, cwd=tmp_path).strip() == "False"
    expected = MAESTFeatureExtractor(max_length=40)(waveform, RATE, return_tensors="np")["input_values"]
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), expected)


@pytest.mark.parametrize(
    "example_s", [0.25, pytest.param(17.0, marks=pytest.mark.slow)], ids=["one chunk", "several chunks"]
)
def test_torch_export_at_any_length(example_s: float) -> None:
    front_end = MAESTLogMel()
    dynamic = ({0: Dim("batch"), 1: Dim("samples", min=256)},)
    exported = torch.export.export(front_end, (waveforms(2, int(example_s * RATE)),), dynamic_shapes=dynamic).module()
    for batch_size, num_samples in ((1, 256), (3, 8077), (1, 5 * RATE), (4, 17003)):
        waveform = waveforms(batch_size, num_samples)
        torch.testing.assert_close(exported(waveform), front_end(waveform), atol=1e-6, rtol=0)


# --- Models


def test_a_folder_of_the_hub_opens_with_its_front_end_in_every_way(tmp_path: Path) -> None:
    """The logits are those of transformers' own model with the official features."""
    native = native_maest(tmp_path)
    clip = waveforms(1, 3 * RATE)
    features = torch.full((1, 316, 96), -MEAN / (2 * STD), dtype=torch.float64)
    features[:, :188] = (by_definition(clip) - MEAN) / (2 * STD)
    expected = logits(native, features.float())
    model, extractor = load_classifier(tmp_path)
    inputs = extractor(clip, RATE, return_tensors="pt")
    torch.testing.assert_close(logits(model, **inputs), expected, atol=1e-5, rtol=0)
    encoder, extractor = load_encoder(tmp_path)
    assert type(extractor) is MAESTFeatureExtractor
    embedding = scene_embeddings(encoder, extractor, clip)
    torch.testing.assert_close(model.classifier(embedding), expected, atol=1e-5, rtol=0)
    moments, times_ms = timestamp_embeddings(encoder, extractor, clip, hop_s=0.5, window_s=0.5)
    assert moments.shape == (1, 7, 32)
    assert times_ms[0, -1] == 3000
    tagging = tag(model, extractor, waveforms(1, 12 * RATE)[0].numpy())
    assert tagging.window_times_s.tolist() == [[0, 5.04], [5.04, 10.08], [6.96, 12]]
    classifier = pipeline("audio-classification", model=model, feature_extractor=extractor)
    best = classifier(clip[0].numpy(), top_k=1)[0]
    assert model.config.label2id[best["label"]] == expected.argmax().item()


def test_batches_masks_and_short_clips_give_what_each_clip_gives_alone(tmp_path: Path) -> None:
    native_maest(tmp_path)
    model, extractor = load_classifier(tmp_path)
    clips = [waveforms(1, int(seconds * RATE), seed)[0] for seed, seconds in enumerate((4.0, 1.5, 0.3))]
    together = logits(model, **extractor(clips, RATE, return_tensors="pt", padding="longest"))
    for clip, expected in zip(clips, together, strict=True):
        alone = extractor([clip], RATE, return_tensors="pt", padding="longest")
        torch.testing.assert_close(logits(model, **alone)[0], expected, atol=1e-5, rtol=0)
    padded = logits(model, **extractor(clips, RATE, return_tensors="pt"))
    for clip, expected in zip(clips, padded, strict=True):
        torch.testing.assert_close(
            logits(model, **extractor([clip], RATE, return_tensors="pt"))[0], expected, atol=1e-5, rtol=0
        )


def test_windows_that_overlap_have_the_features_that_they_have_alone(tmp_path: Path) -> None:
    native_maest(tmp_path)
    model, extractor = load_classifier(tmp_path)
    recording = waveforms(1, 9 * RATE)[0].numpy()
    shared, alone = (
        tag(model, extractor, recording, window_s=2.56, hop_s=1.28, shared_features=shared).window_scores
        for shared in (True, False)
    )
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=0)


def test_a_native_file_is_the_model_of_the_hub(tmp_path: Path) -> None:
    """Positions per row and column here, their sums there; also with the constants that today's code saves."""
    checkpoint = find("mtg-upf/discogs-maest-5s-pw-129e")
    content = small_content(checkpoint.file_name, num_layers=2, sizes=TINY)
    constants = {"melspectrogram.spec.window": torch.ones(512), "melspectrogram.mel_scale.fb": torch.ones(257, 96)}
    model = convert_checkpoint(content | constants, checkpoint.build_config(**CHANGES))
    assert type(model) is HfASTForAudioClassification
    assert (model.config.num_labels, model.config.problem_type) == (400, "multi_label_classification")
    assert model.config.grid == model.config.position_grid == (9, 31)
    table = model.backbone.embeddings.positions(31)
    joint = HfASTForAudioClassification(checkpoint.build_config(**CHANGES, position_table="joint"))
    state = {name: value for name, value in model.state_dict().items() if "embeddings.positions." not in name}
    joint.load_state_dict(state | {"backbone.embeddings.positions.table": table})
    features = torch.randn(2, 316, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(logits(joint, features), logits(model, features), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_an_exported_model_takes_waveforms(tmp_path: Path) -> None:
    import onnxruntime

    native_maest(tmp_path / "model")
    model, extractor = load_classifier(tmp_path / "model")
    export_model(model, extractor, tmp_path / "onnx", to="onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    for batch_size, seconds in ((1, 5.04), (3, 0.7)):
        clips = waveforms(batch_size, int(seconds * RATE))
        expected = logits(model, **extractor(clips, RATE, return_tensors="pt"))
        (found,) = session.run(None, {"waveform": clips.numpy()})
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_fine_tuning_takes_the_statistics_of_the_data(tmp_path: Path) -> None:
    native_maest(tmp_path / "model")
    data = read_data(write_folder(tmp_path / "data", 4))
    finetune(
        data,
        tmp_path / "tuned",
        model=tmp_path / "model",
        num_epochs=1,
        batch_size=4,
        duration_s=0.5,
        stats="data",
        num_workers=0,
        progress=False,
    )
    model, extractor = load_classifier(tmp_path / "tuned")
    assert type(extractor) is MAESTFeatureExtractor
    # No sample of 0.5 s is cut
    assert (extractor.max_length, model.config.max_length, model.config.num_mel_bins) == (33, 33, 96)
    assert model.config.layer_norm_eps == 1e-6
    raw = MAESTFeatureExtractor(max_length=33, do_normalize=False)
    loudest = raw(0.3 * np.ones(8000, np.float32), RATE, return_tensors="pt")["input_values"].max()
    assert 0 < extractor.mean < loudest
    assert extractor.mean != MEAN
    assert extractor.std != STD


def test_the_registry_has_all_eight() -> None:
    for name in ("5s-pw-129e", "10s-fs-129e", "10s-dw-75e", "10s-pw-129e", "20s-pw-129e", "30s-pw-129e-519l"):
        checkpoint = find(f"mtg-upf/discogs-maest-{name}")
        assert checkpoint.license == "CC-BY-NC-SA-4.0"
        assert checkpoint.build_config().num_labels == (519 if name.endswith("l") else 400)
    names = find("discogs-maest-30s-pw-129e").build_config().id2label
    assert (names[0], names[399]) == ("Blues---Boogie Woogie", "Stage & Screen---Theme")
    assert math.isclose(find("maest-30s-pw-73e-ts").build_feature_extractor().max_samples / RATE, 30.0)
    assert hf_ast.MAESTFeatureExtractor is MAESTFeatureExtractor
