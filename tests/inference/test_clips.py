"""Clips of different lengths in batches without waste, in inference and in training."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from transformers import Trainer, TrainingArguments

from hf_ast import HfASTFeatureExtractor, score_clips
from hf_ast.inference.clips import length_batches
from tests.support.cases import cases
from tests.support.tiny import passt_extractor, tiny_model, tiny_passt, waveforms


@cases(1, lengths=st.lists(st.integers(1, 1000), max_size=60), batch_size=st.integers(1, 9), padding=st.floats(0, 1))
def test_batches_hold_every_clip_once_and_little_padding(lengths: list[int], batch_size: int, padding: float) -> None:
    batches = length_batches(lengths, batch_size=batch_size, max_padding=padding)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        used = [lengths[index] for index in batch]
        assert 1 <= len(batch) <= batch_size
        assert min(used) >= (1 - padding) * max(used)


@pytest.mark.parametrize(
    ("model", "extractor"),
    [
        (tiny_model(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)),
        (tiny_model(pooling="mean"), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)),
        (tiny_passt(), passt_extractor()),
    ],
    ids=["prefix", "mean", "passt"],
)
@torch.no_grad()
def test_each_clip_is_scored_as_if_it_were_alone(model: torch.nn.Module, extractor: HfASTFeatureExtractor) -> None:
    lengths = torch.linspace(extractor.num_samples(8), extractor.max_samples, 20).long().tolist()
    clips = [waveforms(1, length, seed)[0].numpy() for seed, length in enumerate(lengths)]
    clips = [clips[index] for index in torch.randperm(20, generator=torch.Generator().manual_seed(0))]
    alone = [
        model(**extractor(clip, extractor.sampling_rate, return_tensors="pt", padding=False)).logits.softmax(-1)
        for clip in clips
    ]
    for max_padding in (0.1, 1.0):
        scores = score_clips(model, extractor, clips, batch_size=4, max_padding=max_padding)
        torch.testing.assert_close(scores, torch.cat(alone), atol=1e-5, rtol=0)


def test_a_clip_that_is_too_long_is_named() -> None:
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    with pytest.raises(ValueError, match=r"clips\[1\] lasts 1 s, longer than what the model hears .*\(0.515 s\)"):
        score_clips(tiny_model(), extractor, [waveforms(1, 4000)[0], waveforms(1, 16000)[0]])
    with pytest.raises(ValueError, match="clips is empty"):
        score_clips(tiny_model(), extractor, [])


def test_clips_are_read_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts, with the results of one part; at most one part is in memory."""
    model, extractor = tiny_model(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    clips = [waveforms(1, 1000 + 331 * (seed * 7 % 20), seed)[0].numpy() for seed in range(20)]
    expected = score_clips(model, extractor, clips, batch_size=3)
    held: list[weakref.ref] = []
    most = 0

    class Recordings(list):
        """Clips that are made when they are read."""

        def __iter__(self) -> Iterator[dict[str, Any]]:
            nonlocal most
            for clip in super().__iter__():
                samples = clip.copy()
                held.append(weakref.ref(samples))
                yield {"array": samples, "sampling_rate": 16000}
                del samples
                most = max(most, sum(ref().size for ref in held if ref() is not None))

    monkeypatch.setattr("hf_ast.inference.clips.SAMPLES_AT_ONCE", 12000)
    found = score_clips(model, extractor, Recordings(clips), batch_size=3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert 5000 < most < 2 * 12000  # of 83,000


def test_a_clip_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    model, extractor = tiny_model(), HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    good = waveforms(1, 4000)[0]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"clips\[1\]: .*broken.wav"):
        score_clips(model, extractor, [good, tmp_path / "broken.wav"])
    with pytest.raises(FileNotFoundError, match=r"clips\[2\]: .*missing.wav"):
        score_clips(model, extractor, [good, good, tmp_path / "missing.wav"])
    with pytest.raises(ValueError, match=r"clips\[0\]: .*no samples"):
        score_clips(model, extractor, [good[:0]])


def test_trainer_groups_clips_by_length(tmp_path: Path) -> None:
    """With transformers' own strategy and our `pad`, a training computes on little padding."""
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    lengths = torch.randint(2000, 8000, (64,), generator=torch.Generator().manual_seed(0)).tolist()
    rows = []
    for seed, length in enumerate(lengths):
        features = extractor(waveforms(1, length, seed)[0], 16000, padding=False)
        rows.append({"input_values": features["input_values"][0], "labels": seed % 5})

    class Counting(Trainer):
        frames = padded = 0

        def training_step(self, model: torch.nn.Module, inputs: dict, *args: object) -> torch.Tensor:
            mask = inputs.get("attention_mask", torch.ones(inputs["input_values"].shape[:2]))
            self.frames += mask.numel()
            self.padded += int((mask == 0).sum())
            return super().training_step(model, inputs, *args)

    waste = {}
    for strategy in ("random", "group_by_length"):
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_train_epochs=1,
            train_sampling_strategy=strategy,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Counting(tiny_model(), arguments, train_dataset=rows, processing_class=extractor)
        trainer.train()
        waste[strategy] = trainer.padded / trainer.frames
    assert waste["random"] > 0.2
    assert waste["group_by_length"] < 0.5 * waste["random"]  # the more rows there are, the less
