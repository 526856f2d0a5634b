import copy
import json
import logging
import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor
from transformers.utils import logging as transformers_logging

from hf_ast import HfASTFeatureExtractor, PaSSTFeatureExtractor

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
    with pytest.raises(ValueError, match="98 frames, but max_length=33"):
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
        (np.zeros((33, 32), np.float32).tolist(), "mixed down"),
        ([tone(0.5), tone(0)], r"raw_speech\[1\] has 0 samples"),
        (None, r"NoneType.*hf_ast\.audio\.read"),
        ("clip.wav", r"is a str.*hf_ast\.audio\.read"),
        ({"array": tone(0.5), "sampling_rate": RATE}, "is a dict.*pass the `array`"),
        (0.5, "is a float"),
        (np.float32(0.5), r"shape \(\)"),
        (np.array(0.5), r"shape \(\)"),
        (torch.tensor(0.5), r"shape \(\)"),
        (np.zeros((0, 800), np.float32), "empty"),
        (torch.zeros(0), "0 samples"),
        ([None, tone(0.5)], r"raw_speech\[0\] is None, a NoneType"),
        ([tone(0.5), "clip.wav"], r"raw_speech\[1\] is 'clip.wav', a str"),
        ([[0.0] * 800, [[0.0], 1.0]], r"raw_speech\[1\] is a list of unequal parts"),
        ([0, 1] * 400, "int64.*32768"),
        (torch.zeros(800, dtype=torch.int16), "int16.*32768"),
        (np.zeros(800, bool), "bool"),
        (np.zeros(800, complex), "complex128"),
        (torch.zeros(800, dtype=torch.complex64), "complex64"),
        (np.array([0.0, None] * 400), "object"),
        (np.array(["0.0"] * 800), "<U3"),
        (np.full(800, 1e300), "peak of inf"),
    ],
)
def test_bad_audio_is_one_clear_error(audio: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HfASTFeatureExtractor()(audio, sampling_rate=RATE)


@pytest.mark.parametrize("form", ["reversed", "strided", "read-only", "big-endian", "longdouble", "tensor", "list"])
def test_every_float_array_gives_the_same(form: str) -> None:
    clip = tone(0.4)
    wide = np.repeat(clip, 2)
    frozen = clip.copy()
    frozen.flags.writeable = False
    same = {
        "reversed": clip[::-1].copy()[::-1],
        "strided": wide[::2],
        "read-only": frozen,
        "big-endian": clip.astype(">f4"),
        "longdouble": clip.astype(np.longdouble),
        "tensor": torch.from_numpy(clip).requires_grad_(),
        "list": list(torch.from_numpy(clip)),
    }
    extractor = HfASTFeatureExtractor(max_length=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = features(extractor, same[form])
    assert not result.requires_grad
    torch.testing.assert_close(result, features(extractor, clip), atol=0, rtol=0)


@pytest.mark.parametrize("kind", [np.float16, torch.float16, torch.bfloat16])
def test_half_precision_is_widened(kind: type | torch.dtype) -> None:
    clip = torch.from_numpy(tone(0.4))
    rounded = clip.to(kind) if isinstance(kind, torch.dtype) else clip.numpy().astype(kind)
    exact = rounded.float() if isinstance(rounded, torch.Tensor) else rounded.astype(np.float32)
    extractor = HfASTFeatureExtractor(max_length=64)
    torch.testing.assert_close(features(extractor, rounded), features(extractor, exact), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (44100, r"sampling_rate=44100 Hz.*resample"),
        (1, r"sampling_rate=1 Hz.*16000"),
        ("16000", r"sampling_rate='16000' must be a number in Hz, here 16000"),
        (True, "sampling_rate=True must be a number in Hz"),
        (0, "sampling_rate=0 must"),
        (float("nan"), "sampling_rate=nan must"),
    ],
)
def test_wrong_sampling_rate(rate: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HfASTFeatureExtractor()(tone(1.0), sampling_rate=rate)


def test_sampling_rate_of_any_number_type() -> None:
    extractor = HfASTFeatureExtractor(max_length=64)
    expected = features(extractor, tone(0.4))
    for rate in (16000.0, np.int64(16000), torch.tensor(16000)):  # data sets in torch's format give tensors
        same = extractor(tone(0.4), sampling_rate=rate, return_tensors="pt")["input_values"]
        torch.testing.assert_close(same, expected, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"std": 0}, r"std=0\.0 must be positive.*do_normalize=False"),
        ({"std": -1.0}, r"std=-1\.0 must be positive"),
        ({"std": math.nan}, "std=nan must be a finite number"),
        ({"mean": math.inf}, "mean=inf must be a finite number"),
        ({"mean": "0"}, "mean='0' must be a finite number"),
        ({"num_mel_bins": 0}, "num_mel_bins=0 must be a whole number of at least 2"),
        ({"num_mel_bins": 64.5}, r"num_mel_bins=64\.5 must be a whole number"),
        ({"max_length": 0}, "max_length=0 must be a whole number of at least 1"),
        ({"max_length": True}, "max_length=True must be a whole number"),
        ({"sampling_rate": "16000"}, "sampling_rate='16000' must be a whole number"),
        ({"sampling_rate": 1}, r"sampling_rate=1 .*give the rate in Hz"),
        ({"padding_value": math.nan}, "padding_value=nan must be a finite number"),
    ],
)
def test_settings_out_of_their_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HfASTFeatureExtractor(**settings)
    changed = HfASTFeatureExtractor()
    for name, value in settings.items():
        setattr(changed, name, value)
    with pytest.raises(ValueError, match=message):
        changed(tone(0.4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop_length": 0}, "hop_length=0 must be a whole number of at least 1"),
        ({"window_length": 2000}, "window_length=2000 must be between 1 and n_fft=1024"),
        ({"high_frequency_hz": 17000.0}, r"high_frequency_hz=17000\.0"),
        ({"low_frequency_hz": math.nan}, "low_frequency_hz=nan must be a finite number"),
    ],
)
def test_settings_of_passt_out_of_their_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PaSSTFeatureExtractor(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 0}, "max_length=0 must be a whole number of at least 1"),
        ({"max_length": "64"}, "max_length='64' must be a whole number"),
        ({"padding": "left"}, "padding='left' is unknown"),
        ({"return_tensors": "tf"}, "return_tensors='tf' is unknown"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HfASTFeatureExtractor()(tone(0.4), RATE, **arguments)


def test_changed_settings_reach_the_filter_bank() -> None:
    extractor = HfASTFeatureExtractor(max_length=64)
    features(extractor, tone(0.4))
    extractor.num_mel_bins = 40
    changed = features(extractor, tone(0.4))
    torch.testing.assert_close(
        changed, features(HfASTFeatureExtractor(max_length=64, num_mel_bins=40), tone(0.4)), atol=0, rtol=0
    )


@pytest.mark.parametrize("extractor_class", [HfASTFeatureExtractor, PaSSTFeatureExtractor])
def test_the_filter_bank_is_no_part_of_what_is_saved(extractor_class: type) -> None:
    extractor = extractor_class(max_length=64)
    described, size = extractor.to_json_string(), len(pickle.dumps(extractor))
    clip = np.tile(tone(0.4), 2)
    result = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"]
    assert extractor.to_json_string() == described
    assert repr(extractor) == f"{extractor_class.__name__} {described}"
    assert size < 2000  # a filter bank has 60 kB and more
    assert len(pickle.dumps(extractor)) == size
    for same in (copy.copy(extractor), copy.deepcopy(extractor), pickle.loads(pickle.dumps(extractor))):
        assert same.to_dict() == extractor.to_dict()
        again = same(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"]
        torch.testing.assert_close(again, result, atol=0, rtol=0)


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
