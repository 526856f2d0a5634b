"""Synthetic speech, its noises, and the keyword recogniser trained on them."""

import sys

import numpy as np
import pytest
import soundfile

from hf_ast.assets import RECORDINGS
from hf_ast.recipes.keywords import clips as keyword_clips, speech, training as keywords


@pytest.fixture(scope="module")
def talkers():
    return [speech.synthesize(word, "en-us+m3") for word in ("water", "garden", "seven")]


@pytest.fixture(scope="module")
def pool():
    return keyword_clips.speech_pool("validation", num_per_keyword=2, num_unknown=4, seed=0)


def power(waveform):
    return np.mean(np.square(waveform, dtype=np.float64))


# Plain formants, breath, Klatt synthesis and whisper: each draws on another part of espeak-ng's hidden state
@pytest.mark.parametrize("voice", ["en-us+f2", "en+m3", "en-029+klatt2", "en-us-nyc+whisper", "en-gb-x-rp+Mr serious"])
def test_the_same_arguments_give_the_same_samples_whatever_came_before(voice):
    first = speech.synthesize("stop", voice, rate=140, pitch=40)
    speech.synthesize("something else", "en-gb-scotland+robosoft3", rate=200)
    np.testing.assert_array_equal(speech.synthesize("stop", voice, rate=140, pitch=40), first)


def test_speech_has_the_right_length_level_and_type():
    waveform = speech.synthesize("yes", "en-us+f2")
    # espeak-ng gives 9268 samples at 22,050 Hz
    assert len(waveform) == pytest.approx(9268 * 16000 / 22050, rel=0.02)
    assert waveform.dtype == np.float32
    assert 0.1 < np.abs(waveform).max() <= 1.0
    slow = speech.synthesize("yes", "en-us+f2", rate=100)
    assert len(slow) > 1.25 * len(waveform)


def test_pitch_moves_the_fundamental():
    def fundamental_hz(pitch):
        vowel = speech.synthesize("[[A:A:]]", "en-us+m1", pitch=pitch)[1600:4800]
        correlation = np.correlate(vowel, vowel, "full")[len(vowel) - 1 :]
        shortest = speech.SAMPLING_RATE_HZ // 400
        return speech.SAMPLING_RATE_HZ / (shortest + np.argmax(correlation[shortest:400]))

    assert fundamental_hz(90) > 1.3 * fundamental_hz(20)


def test_every_voice_is_in_one_split_only():
    splits = {split: set(speech.voices(split)) for split in speech.VARIANTS}
    assert {split: len(voices) for split, voices in splits.items()} == {"train": 512, "validation": 96, "test": 224}
    assert len(set.union(*splits.values())) == 832
    assert speech.random_voice("test", np.random.default_rng(0)) in splits["test"]
    variants = [variant for split in speech.VARIANTS.values() for variant in split]
    assert len(variants) == len(set(variants)) == 104


def test_unknown_words_are_split_and_sound_like_no_keyword():
    splits = [set(keyword_clips.unknown_words(split)) for split in ("train", "validation", "test")]
    assert len(set.union(*splits)) == sum(map(len, splits))
    sound = {speech.synthesize(word, "en-us+m1").tobytes(): word for word in keyword_clips.KEYWORDS}
    assert [word for word in set.union(*splits) if speech.synthesize(word, "en-us+m1").tobytes() in sound] == []
    assert speech.synthesize("know", "en-us+m1").tobytes() in sound


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voice": "en-us+nobody"}, "nobody"),
        ({"voice": "xx"}, "xx"),
        ({"voice": "en-us", "rate": 20}, "rate=20"),
        ({"voice": "en-us", "pitch": 100}, "pitch=100"),
        ({"text": " ", "voice": "en-us"}, "no sound"),
    ],
)
def test_what_cannot_be_spoken_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        speech.synthesize(**{"text": "yes", **arguments})


def test_a_missing_synthesiser_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"espeakng_loader.*hf-ast\[recipes\]"):
        speech.synthesize("yes", "en-us")


@pytest.mark.parametrize("kind", speech.NOISE_KINDS)
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 17.5])
def test_mixture_has_the_snr_that_was_asked_for(kind, snr_db, talkers):
    clip = speech.place(talkers[0], 16000, np.random.default_rng(1))
    noise = speech.make_noise(kind, 16000, np.random.default_rng(2), talkers)
    np.testing.assert_array_equal(noise, speech.make_noise(kind, 16000, np.random.default_rng(2), talkers))
    assert power(noise) == pytest.approx(1.0, rel=1e-4)
    added = speech.mix_at_snr(clip, noise, snr_db).astype(np.float64) - clip
    assert 10 * np.log10(power(clip) / power(added)) == pytest.approx(snr_db, abs=1e-3)
    assert np.corrcoef(added, noise)[0, 1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("kind", "db_per_octave"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_noise_color(kind, db_per_octave):
    noise = speech.make_noise(kind, 160_000, np.random.default_rng(0))
    spectrum, hz = np.abs(np.fft.rfft(noise)) ** 2, np.fft.rfftfreq(160_000, 1 / 16000)
    octaves = [10 * np.log10(spectrum[(hz >= low) & (hz < 2 * low)].mean()) for low in (125, 250, 500, 1000, 2000)]
    np.testing.assert_allclose(np.diff(octaves), db_per_octave, atol=0.5)


def test_mixing_silence_or_unequal_lengths_is_an_error():
    with pytest.raises(ValueError, match="zeros"):
        speech.mix_at_snr(np.zeros(100, np.float32), np.ones(100, np.float32), 10.0)
    with pytest.raises(ValueError, match="length"):
        speech.mix_at_snr(np.ones(100, np.float32), np.ones(99, np.float32), 10.0)


def test_place_moves_a_word_without_changing_it():
    word = np.arange(1, 401, dtype=np.float32)
    starts = set()
    for seed in range(20):
        clip = speech.place(word, 1000, np.random.default_rng(seed))
        start = int(np.flatnonzero(clip)[0])
        np.testing.assert_array_equal(clip[start : start + 400], word)
        assert np.count_nonzero(clip) == 400
        starts.add(start)
    assert len(starts) > 10
    cut = speech.place(word, 100, np.random.default_rng(0))
    np.testing.assert_array_equal(cut, word[int(cut[0]) - 1 :][:100])


def test_set_peak():
    waveform = np.array([0.1, -0.2, 0.05], np.float32)
    np.testing.assert_allclose(speech.set_peak(waveform, -20.0), waveform * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(speech.set_peak(np.zeros(3, np.float32), -20.0), np.zeros(3))


def test_training_clips_depend_on_seed_and_index_only(pool):
    extractor = keywords.new_feature_extractor()
    clips = [keyword_clips.RandomClips(pool, extractor, num_clips=150, seed=seed) for seed in (3, 3, 4)]
    clips[0][0]
    np.testing.assert_array_equal(clips[0][7]["input_values"], clips[1][7]["input_values"])
    assert not np.array_equal(clips[0][7]["input_values"], clips[2][7]["input_values"])
    assert {clips[0][index]["labels"] for index in range(150)} == set(range(12))


def test_training_features_are_those_of_the_extractor(pool):
    """Mixing mel energies must end where the feature extractor does: here for one word without noise."""
    extractor = keywords.new_feature_extractor()
    clips = keyword_clips.RandomClips(pool, extractor, num_clips=1, seed=0)
    word = pool["yes"][0]
    silence = np.zeros(2 * keyword_clips.HOP, np.float32)
    expected = extractor(np.concatenate((silence, word, silence)), speech.SAMPLING_RATE_HZ)["input_values"][0]
    features = clips._normalized(clips._mel_energies(word)).numpy()
    # a float32 round trip through exp and log; energies at the floor lose it
    assert np.abs(features - expected).mean() < 1e-3
    assert np.median(np.abs(features - expected)) < 1e-6


def test_held_out_clips_have_every_class_as_often():
    clips = keyword_clips.held_out_clips(num_per_class=2)
    counts = {(label, noisy): 0 for label in keyword_clips.LABELS for noisy in (False, True)}
    for clip in clips:
        counts[clip.label, clip.noisy] += 1
        assert 8000 <= len(clip.waveform) <= 25600
        assert np.abs(clip.waveform).max() <= 1.0
    assert set(counts.values()) == {2}
    again = keyword_clips.held_out_clips(num_per_class=2)
    assert all(np.array_equal(a.waveform, b.waveform) for a, b in zip(clips, again, strict=True))


def test_embedded_model_recognises_voices_it_never_heard():
    result = keywords.evaluate(num_per_class=15, seed=1)
    assert result["num_clips"] == 360
    assert result["accuracy"] >= 0.95
    assert result["accuracy_clean"] >= 0.95


def test_embedded_model_recognises_its_recordings():
    paths = sorted(RECORDINGS.glob("*.flac"))
    assert {path.stem for path in paths} == set(keyword_clips.LABELS)
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in paths]
    predictions = keywords.predict(keywords.EMBEDDED_MODEL, waveforms)
    assert [keyword_clips.LABELS[index] for index in predictions] == [path.stem for path in paths]
