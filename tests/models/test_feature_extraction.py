import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor
from transformers.utils import logging as transformers_logging

from hf_ast import HfASTFeatureExtractor

RATE = 16000
PADDING = 4.2677393 / (2 * 4.5689974)


def tone(duration_s: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(int(duration_s * RATE))
    return (0.1 * noise).astype(np.float32)


def features(extractor: HfASTFeatureExtractor, audio: object, **kwargs: object) -> torch.Tensor:
    return extractor(audio, sampling_rate=RATE, return_tensors="pt", **kwargs)["input_values"]


def test_close_to_transformers_own_extractor() -> None:
    clips = [tone(1.0), tone(11.0, 1), tone(10.24, 2)]
    ours = features(HfASTFeatureExtractor(), clips)
    theirs = ASTFeatureExtractor()(clips, sampling_rate=RATE, return_tensors="pt")["input_values"]
    # two float32 implementations of a logarithm of small energies
    assert (ours - theirs).abs().max() < 1e-3
    assert (ours - theirs).abs().mean() < 1e-6


def test_every_kind_of_input_gives_the_same() -> None:
    extractor = HfASTFeatureExtractor(max_length=64)
    clip = tone(0.4)
    expected = features(extractor, clip)
    assert expected.shape == (1, 64, 128)
    for same in (clip.tolist(), clip.astype(np.float64), torch.from_numpy(clip), [clip], clip[None], [clip.tolist()]):
        torch.testing.assert_close(features(extractor, same), expected, atol=1e-4, rtol=0)
    batch = np.stack([clip, tone(0.4, 1)])
    torch.testing.assert_close(features(extractor, batch)[:1], expected, atol=0, rtol=0)
    arrays = extractor(clip, sampling_rate=RATE)["input_values"]
    assert isinstance(arrays, list)
    np.testing.assert_array_equal(arrays[0], expected[0].numpy())


def test_official_padding_is_zero_before_the_normalisation() -> None:
    padded = features(HfASTFeatureExtractor(), tone(1.0))[0, 98:]
    torch.testing.assert_close(padded, torch.full_like(padded, PADDING), atol=1e-7, rtol=0)


def test_padding_follows_changed_statistics() -> None:
    extractor = HfASTFeatureExtractor()
    extractor.mean, extractor.std = -6.0, 3.0
    assert extractor.padding_value == 1.0
    extractor.do_normalize = False
    assert extractor.padding_value == 0.0


def test_longest_padding_and_masks() -> None:
    extractor = HfASTFeatureExtractor()
    clips = [tone(0.5), tone(1.0, 1)]
    batch = extractor(clips, sampling_rate=RATE, return_tensors="pt", padding="longest")
    assert batch["input_values"].shape == (2, 98, 128)
    assert batch["attention_mask"].sum(1).tolist() == [48, 98]
    for clip, padded, frames in zip(clips, batch["input_values"], (48, 98), strict=True):
        torch.testing.assert_close(padded[:frames], features(extractor, clip, padding=False)[0], atol=1e-6, rtol=0)
    assert "attention_mask" not in extractor(clips, sampling_rate=RATE)
    ragged = extractor(clips, sampling_rate=RATE, padding=False)["input_values"]
    assert [item.shape for item in ragged] == [(48, 128), (98, 128)]


def test_cutting_warns_and_can_be_refused(caplog: pytest.LogCaptureFixture) -> None:
    extractor = HfASTFeatureExtractor(max_length=33)
    transformers_logging.get_logger("transformers").propagate = True
    with caplog.at_level(logging.WARNING):
        assert features(extractor, tone(1.0)).shape == (1, 33, 128)
    assert "cut off" in caplog.text
    with pytest.raises(ValueError, match="98 frames, max_length=33"):
        features(extractor, tone(1.0), truncation=False)
    assert features(extractor, tone(1.0), truncation=False, padding="longest").shape == (1, 98, 128)
    whole = features(HfASTFeatureExtractor(max_length=98), tone(1.0))
    # centred over the whole clip, so that only the end is missing
    torch.testing.assert_close(features(extractor, tone(1.0)), whole[:, :33], atol=1e-6, rtol=0)


def test_max_samples_is_what_is_not_cut() -> None:
    extractor = HfASTFeatureExtractor(max_length=20)
    clip = tone(1.0)
    whole = features(extractor, clip[: extractor.max_samples], padding=False, truncation=False)
    assert whole.shape == (1, 20, 128)
    longer = features(extractor, clip[: extractor.max_samples + 160], padding=False, truncation=False)
    assert longer.shape == (1, 21, 128)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(399, np.float32), "399 samples"),
        (np.zeros(0, np.float32), "0 samples"),
        ([], "empty"),
        ([[]], "0 samples"),
        (np.zeros(800, np.int16), "32768"),
        (np.full(800, 12000.0, np.float32), "12000"),
        (np.array([0.0] * 799 + [np.nan], np.float32), "NaN"),
        (np.array([0.0] * 799 + [np.inf], np.float32), "inf"),
        (np.zeros((1, 2, 800), np.float32), "stereo"),
        ([np.zeros((2, 800), np.float32)], "stereo"),
        (np.zeros((800, 2), np.float32), "mixed down"),
        ([tone(0.5), tone(0.01)], r"raw_speech\[1\]"),
    ],
)
def test_bad_audio_is_one_clear_error(audio: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HfASTFeatureExtractor()(audio, sampling_rate=RATE)


def test_wrong_sampling_rate() -> None:
    with pytest.raises(ValueError, match=r"sampling_rate=44100 Hz.*resample"):
        HfASTFeatureExtractor()(tone(1.0), sampling_rate=44100)


def test_save_and_load(tmp_path: Path) -> None:
    extractor = HfASTFeatureExtractor(max_length=128, mean=-6.8, std=5.6, subtract_mean=False)
    extractor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["padding_value"] is None
    assert saved["auto_map"] == {"AutoFeatureExtractor": "feature_extraction_ast.HfASTFeatureExtractor"}
    loaded = HfASTFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    torch.testing.assert_close(features(loaded, tone(1.0)), features(extractor, tone(1.0)), atol=0, rtol=0)


def test_opens_the_config_of_transformers_own_extractor(tmp_path: Path) -> None:
    ASTFeatureExtractor(mean=-6.0, std=3.0, max_length=128).save_pretrained(tmp_path)
    loaded = HfASTFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.mean, loaded.std, loaded.max_length, loaded.feature_size) == (-6.0, 3.0, 128, 128)
    assert loaded.padding_value == 1.0  # its own JSON says 0.0, which it never uses
    assert loaded.to_dict()["feature_extractor_type"] == "HfASTFeatureExtractor"


def test_pad_collates_features_of_different_lengths() -> None:
    extractor = HfASTFeatureExtractor()
    items = [
        {"input_values": extractor(tone(s), sampling_rate=RATE, padding=False)["input_values"][0]} for s in (0.5, 1.0)
    ]
    batch = extractor.pad(items, padding=True, return_tensors="pt", return_attention_mask=True)
    assert batch["input_values"].shape == (2, 98, 128)
    assert batch["attention_mask"].sum(1).tolist() == [48, 98]
    torch.testing.assert_close(batch["input_values"][0, 48:], torch.full((50, 128), PADDING), atol=1e-6, rtol=0)
