"""Each augmentation against its definition, written out by loops, with the draws of the same seed."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments

from hf_ast.training.augmentation import (
    Augmentation,
    gain,
    mixup_waveforms,
    mixup_weights,
    noise_and_roll,
    smooth_labels,
    spec_augment,
    time_shift,
)
from tests.support.tiny import spectrograms, tiny_model, waveforms

# Float32 noise of a few operations on values of about 1
CLOSE = {"atol": 1e-6, "rtol": 1e-6}
# Real frames of three clips of 20 frames: all, padding behind, padding before and behind
RUNS = [(0, 20), (0, 13), (4, 15)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frame_mask() -> Tensor:
    mask = torch.zeros(3, 20, dtype=torch.long)
    for row, (first, end) in zip(mask, RUNS, strict=True):
        row[first:end] = 1
    return mask


def test_mixup_is_the_official_one_for_clips_of_different_lengths() -> None:
    first, second = waveforms(1, 900, seed=1)[0] + 0.3, waveforms(1, 1000, seed=2)[0] - 0.2
    for one, other in ((first, second), (second, first)):
        a, b = one.numpy() - one.numpy().mean(), other.numpy() - other.numpy().mean()
        fitted = np.zeros_like(a)
        fitted[: min(len(a), len(b))] = b[: len(a)]
        expected = 0.3 * a + 0.7 * fitted
        torch.testing.assert_close(
            mixup_waveforms(one, other, 0.3), torch.from_numpy(expected - expected.mean()), **CLOSE
        )
    batch = mixup_waveforms(torch.stack([first, first]), second[None], torch.tensor([0.3, 0.9]))
    torch.testing.assert_close(batch[1], mixup_waveforms(first, second, 0.9))
    with pytest.raises(ValueError, match=r"weight=1\.5 must be in"):
        mixup_waveforms(first, second, 1.5)


@pytest.mark.parametrize("alpha", [2.0, 10.0])
def test_mixup_weights_have_the_moments_of_the_beta_distribution(alpha: float) -> None:
    weights = mixup_weights(20_000, alpha, generator=seeded())
    variance = 1 / (4 * (2 * alpha + 1))
    # Five standard errors; that of a variance is at most variance * sqrt(2 / n) for such flat-topped densities
    assert weights.mean().item() == pytest.approx(0.5, abs=5 * math.sqrt(variance / 20_000))
    assert weights.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / 20_000))
    larger = mixup_weights(20_000, alpha, favors_own=True, generator=seeded())
    torch.testing.assert_close(larger, torch.maximum(weights, 1 - weights))


def test_gain_is_whole_decibels_in_the_official_range() -> None:
    clips = waveforms(500, 10)
    louder = gain(clips, 7, generator=seeded())
    decibels = 20 * (louder[:, 0] / clips[:, 0]).log10()
    torch.testing.assert_close(decibels, decibels.round(), atol=1e-4, rtol=0)
    assert set(decibels.round().int().tolist()) == set(range(-7, 7))  # 7 itself is excluded by `randint`
    torch.testing.assert_close(louder, clips * 10 ** (decibels.round() / 20)[:, None])


def test_time_shift_rolls_by_up_to_the_bound_both_ways() -> None:
    clips = waveforms(300, 40)
    shifted = time_shift(clips, 3, generator=seeded())
    draws = torch.randint(-3, 4, (300,), generator=seeded())
    assert set(draws.tolist()) == {-3, -2, -1, 0, 1, 2, 3}
    for clip, result, shift in zip(clips, shifted, draws.tolist(), strict=True):
        torch.testing.assert_close(result, clip.roll(shift), atol=0, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_noise_and_roll_are_the_official_ones_and_leave_padding_alone(masked: bool) -> None:
    clips = spectrograms(3, 20, 6)
    result = noise_and_roll(clips, attention_mask=frame_mask() if masked else None, generator=seeded())
    generator = seeded()
    noise = torch.rand(3, 20, 6, generator=generator)
    strength = torch.rand(3, 1, 1, generator=generator)
    shifts = torch.randint(-10, 10, (3,), generator=generator).tolist()
    for number, (first, end) in enumerate(RUNS if masked else [(0, 20)] * 3):
        expected = clips[number].clone()
        part = clips[number, first:end] + noise[number, first:end] * strength[number] / 10
        expected[first:end] = part.roll(shifts[number], 0)
        torch.testing.assert_close(result[number], expected, **CLOSE)
    assert len(set(shifts)) > 1  # per clip


def test_noise_and_rolls_cover_their_ranges_evenly() -> None:
    ramp = torch.arange(30.0)[None, :, None].expand(4000, 30, 1)
    shifts = (30 - noise_and_roll(ramp, max_noise=0.0, generator=seeded())[:, 0, 0].int()) % 30
    counts = torch.bincount((shifts + 10) % 30, minlength=20)
    assert len(counts) == 20  # -10 to 9
    assert ((counts - 200).abs() < 5 * math.sqrt(200)).all()  # five standard deviations of a count
    noise = noise_and_roll(torch.zeros(4000, 3, 4), max_roll=0, generator=seeded())
    assert noise.min() >= 0
    assert noise.max() < 0.1
    assert noise.mean().item() == pytest.approx(0.025, abs=5 * 0.1 * math.sqrt(1 / 36 / 4000))


@pytest.mark.parametrize("masked", [False, True])
def test_spec_augment_is_its_definition_and_leaves_padding_alone(masked: bool) -> None:
    clips, mask = spectrograms(3, 20, 12), frame_mask()
    result = spec_augment(
        clips,
        max_mel_bins=6,
        max_frames=16,
        mask_value=9.0,
        attention_mask=mask if masked else None,
        generator=seeded(3),
    )
    draws = torch.rand(3, 4, generator=seeded(3)).tolist()
    num_masked = 0
    for number, (first, end) in enumerate(RUNS if masked else [(0, 20)] * 3):
        length = end - first
        mel_width, frame_width = draws[number][0] * 6, draws[number][2] * min(16, length)
        mel_start = int(draws[number][1] * (12 - mel_width))
        frame_start = int(draws[number][3] * (length - frame_width))
        expected = clips[number].clone()
        for frame in range(first, end):
            in_band = frame_start <= frame - first < frame_start + int(frame_width)
            for mel_bin in range(12):
                if in_band or mel_start <= mel_bin < mel_start + int(mel_width):
                    expected[frame, mel_bin] = 9.0
        torch.testing.assert_close(result[number], expected, atol=0, rtol=0)
        num_masked += int((expected == 9.0).sum())
    assert num_masked > 60


def test_a_short_clip_is_never_masked_whole() -> None:
    clips, mask = torch.zeros(2000, 100, 4), torch.zeros(2000, 100)
    mask[:, :10] = 1
    result = spec_augment(
        clips, max_mel_bins=0, max_frames=192, mask_value=1.0, attention_mask=mask, generator=seeded()
    )
    num_masked = result[:, :10, 0].sum(1)
    assert num_masked.max() == 9
    assert not result[:, 10:].any()
    # Widths are whole parts of a uniform number in [0, 10): 4.5 on average, with a standard deviation of 2.9
    assert num_masked.mean().item() == pytest.approx(4.5, abs=5 * 2.9 / math.sqrt(2000))


def test_smoothed_labels_keep_what_a_label_means() -> None:
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.6, 0.4, 0.0, 0.0]])
    single = smooth_labels(labels, 0.2, multi_label=False)
    torch.testing.assert_close(single[0], torch.tensor([0.85, 0.05, 0.05, 0.05]))
    torch.testing.assert_close(single.sum(1), torch.ones(2))
    torch.testing.assert_close(smooth_labels(labels, 0.2, multi_label=True)[1], torch.tensor([0.58, 0.42, 0.1, 0.1]))


def test_smoothed_labels_are_what_trainer_does_with_class_indices(tmp_path: Path) -> None:
    model, classes = tiny_model(problem_type="single_label_classification"), torch.tensor([0, 3, 1])
    arguments = TrainingArguments(str(tmp_path), label_smoothing_factor=0.2, use_cpu=True, report_to="none")
    inputs = spectrograms(3, 50)
    smoothed = Trainer(model, arguments).compute_loss(model, {"input_values": inputs, "labels": classes})
    soft = smooth_labels(torch.eye(5)[classes], 0.2, multi_label=False)
    torch.testing.assert_close(model(inputs, labels=soft).loss, smoothed)


def test_everything_is_off_by_default() -> None:
    clips, features = waveforms(1, 50), spectrograms(2, 20)
    torch.testing.assert_close(Augmentation().waveform(clips[0], seeded()), clips[0], atol=0, rtol=0)
    assert Augmentation().features(features, None, seeded()) is features


def test_a_seed_gives_the_same_draws_on_batches_of_any_precision() -> None:
    augmentation = Augmentation(max_mel_mask=6, max_time_mask=8, max_noise=0.1, max_roll=10)
    single = augmentation.features(spectrograms(2, 20), None, seeded(5))
    double = augmentation.features(spectrograms(2, 20).double(), None, seeded(5))
    torch.testing.assert_close(single.double(), double, **CLOSE)
    assert not torch.equal(single, augmentation.features(spectrograms(2, 20), None, seeded(6)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("mixup_probability", 1.5), ("mixup_alpha", 0.0), ("max_shift", -1), ("label_smoothing", 1.0)],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}={value}"):
        Augmentation(**{name: value})
