import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import TrainingArguments

from hf_ast import HfASTFeatureExtractor, SSASTForAudioClassification, SSASTForPreTraining, audio
from hf_ast.training.crops import ClipMasks, Crops
from hf_ast.training.mixtures import read_mixture
from hf_ast.training.pretraining import MASK_RATIO, pretrain, pretraining_config
from hf_ast.training.pretraining_trainer import PretrainingTrainer
from tests.support.tiny import SIZE, spectrograms, tiny_ssast

TINY = {"num_mel_bins": 32, **SIZE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chirps of 0.2 to 2 s in several formats, and a file that is no audio."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for number in range(20):
        rate = (16000, 22050)[number % 2]
        time = np.arange(int(rate * (0.2 + 0.1 * number))) / rate
        samples = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 2000) * time**1.5) + 0.01 * rng.standard_normal(len(time))
        path = folder / f"part{number % 3}" / f"{number:02d}.{('wav', 'flac', 'ogg')[number % 3]}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, rate)
    (folder / "labels.csv").write_text("file,label\n")
    return folder


def logged(output: Path) -> list[dict[str, float]]:
    states = sorted(output.glob("checkpoints/checkpoint-*/trainer_state.json"), key=lambda p: int(p.parent.name[11:]))
    return json.loads(states[-1].read_text())["log_history"]


def test_pretrain_resume_and_fine_tune(folder: Path, tmp_path: Path) -> None:
    settings = {"duration_s": 0.96, "batch_size": 4, "eval_every": 2, "num_workers": 0, "config": TINY}
    pretrain(folder, tmp_path, num_steps=4, **settings)
    log = logged(tmp_path)
    for prefix in ("", "eval_"):
        entries = [entry for entry in log if f"{prefix}loss" in entry]
        assert len(entries) == (4 if not prefix else 2)
        for entry in entries:
            parts = entry[f"{prefix}classification_loss"] + 10 * entry[f"{prefix}reconstruction_loss"]
            assert entry[f"{prefix}loss"] == pytest.approx(parts, rel=1e-4)
            assert 0 <= entry[f"{prefix}accuracy"] <= 1

    first = HfASTFeatureExtractor.from_pretrained(tmp_path)
    saved = HfASTFeatureExtractor.from_pretrained(tmp_path / "checkpoints" / "checkpoint-4")
    assert (saved.mean, saved.std) == (first.mean, first.std)
    # The statistics come from the saved state: others would spoil what the model has learnt
    (tmp_path / "checkpoints" / "checkpoint-4" / "preprocessor_config.json").write_text(
        json.dumps(saved.to_dict() | {"mean": saved.mean + 1})
    )
    with pytest.raises(ValueError, match="num_steps was 4, and now is 6"):
        pretrain(folder, tmp_path, num_steps=6, resume=True, **settings)
    pretrain(folder, tmp_path, num_steps=4, resume=True, **settings)
    assert HfASTFeatureExtractor.from_pretrained(tmp_path).mean == saved.mean + 1
    assert [entry["step"] for entry in logged(tmp_path) if "loss" in entry] == [1, 2, 3, 4]

    extractor = HfASTFeatureExtractor.from_pretrained(tmp_path)
    assert (extractor.num_mel_bins, extractor.max_length) == (32, 96)
    assert -16 < extractor.mean < -2  # not AudioSet's, which are the default
    assert extractor.mean != HfASTFeatureExtractor().mean
    waveform, rate = audio.read(folder / "part0" / "18.wav", 16000)
    features = extractor(waveform, sampling_rate=rate, return_tensors="pt")
    tuned = SSASTForAudioClassification.from_pretrained(tmp_path, num_labels=3, time_stride=10)
    assert tuned(**features).logits.shape == (1, 3)

    again = pretrain(folder, tmp_path / "again", model=tmp_path, num_steps=1, **settings | {"config": None})
    assert again.config.max_length == 96


@pytest.mark.parametrize("kind", ["patch", "frame"])
def test_crops(folder: Path, kind: str) -> None:
    mixture = read_mixture(folder, num_eval=0)
    recordings = mixture.parts[0].clips
    assert len(recordings) == 20
    model = SSASTForPreTraining(pretraining_config("tiny", kind, duration_s=0.96, **TINY))
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=model.config.max_length)
    crops = Crops(mixture, extractor)
    assert len(crops) == sum(max(1, round(r.duration_s / crops.duration_s)) for r in recordings)
    longest = len(crops) - 1
    first = crops[longest]["input_values"]
    assert torch.equal(crops[longest]["input_values"], first)
    crops.set_epoch(1)
    assert not torch.equal(crops[longest]["input_values"], first)

    fixed = Crops(mixture, extractor, ClipMasks(model.config))
    for index in (0, 19):
        item, again = fixed[index], Crops(mixture, extractor, ClipMasks(model.config))[index]
        assert all(torch.equal(item[name], again[name]) for name in item)
        columns = model.backbone.embeddings.column_mask(item["attention_mask"][None])
        num_real = int(columns.sum()) * model.backbone.embeddings.num_rows
        assert (item["mask_indices"] >= 0).sum() == max(
            1, min(num_real - 1, round(num_real * model.config.mask_ratio))
        )
    batch = {name: torch.stack([fixed[0][name], fixed[19][name]]) for name in item}
    assert model(**batch).loss.isfinite()
    assert len(Crops(read_mixture(folder, num_eval=1), extractor, evaluation=True)) == 1


def test_evaluation_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    model = SSASTForPreTraining(pretraining_config("tiny", "patch", duration_s=0.96, **TINY))
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=96)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), prediction_loss_only=True, report_to="none", dataloader_pin_memory=False
    )
    crops = Crops(read_mixture(folder), extractor, ClipMasks(model.config), evaluation=True)
    assert len(crops) == 2
    trainer = PretrainingTrainer(model, arguments, eval_dataset=crops)
    first, again = trainer.evaluate(), trainer.evaluate()
    for name in ("eval_loss", "eval_classification_loss", "eval_reconstruction_loss", "eval_accuracy"):
        assert first[name] == again[name]


@pytest.mark.parametrize("num_batches", [1, 2, 4])
def test_accumulated_steps_are_means_over_all_masked_patches(num_batches: int, tmp_path: Path) -> None:
    """22 patches are masked in one half and 6 in the other, which a mean of the halves' means would weight equally."""
    clips, lengths, counts = spectrograms(4, 50), (50, 50, 20, 14), (12, 10, 4, 2)
    items = []
    for clip, length, count in zip(clips, lengths, counts, strict=True):
        columns = (length - 6) // 6 + 1
        real = torch.tensor([row * 8 + column for row in range(4) for column in range(columns)])
        mask_indices = torch.nn.functional.pad(real[:count], (0, 12 - count), value=-1)
        mask = (torch.arange(50) < length).long()
        items.append({"input_values": clip, "attention_mask": mask, "mask_indices": mask_indices})
    together = tiny_ssast()
    whole = together(**{name: torch.stack([item[name] for item in items]) for name in items[0]})
    whole.loss.backward()

    model = tiny_ssast()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=4 // num_batches,
        gradient_accumulation_steps=num_batches,
        train_sampling_strategy="sequential",
        max_grad_norm=0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer = PretrainingTrainer(model, arguments, train_dataset=items, optimizers=(optimizer, schedule))
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["loss"] == pytest.approx(whole.loss.item(), rel=1e-5)
    assert entry["accuracy"] == pytest.approx(whole.accuracy.item(), rel=1e-5)
    assert entry["reconstruction_loss"] == pytest.approx(whole.reconstruction_loss.item(), rel=1e-5)
    for name, parameter in together.named_parameters():
        # Single precision: sums in another order
        expected = before[name] - 1e-3 * parameter.grad
        torch.testing.assert_close(dict(model.named_parameters())[name].detach(), expected, atol=2e-6, rtol=1e-5)


def damage(folder: Path, numbers: range) -> list[str]:
    """Recordings with one NaN behind a good header: one that is cut off is named before the training."""
    names = []
    for number in numbers:
        samples = np.random.default_rng(number).uniform(-0.3, 0.3, 16000).astype(np.float32)
        samples[8000] = np.nan
        names.append(f"damaged{number}.wav")
        soundfile.write(folder / names[-1], samples, 16000, subtype="FLOAT")
    return names


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_recordings_are_left_out_and_named(
    folder: Path, tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder, tmp_path / "recordings")
    names = damage(tmp_path / "recordings", range(2))
    settings = {"duration_s": 0.96, "batch_size": 8, "num_eval": 0, "num_workers": num_workers, "config": TINY}
    transformers_logger = logging.getLogger("transformers")
    hf_logger = logging.getLogger("hf_ast.training.pretraining_trainer")
    for logger in (transformers_logger, hf_logger):
        logger.addHandler(caplog.handler)
    try:
        pretrain(tmp_path / "recordings", tmp_path / "out", num_steps=8, **settings)
    finally:
        for logger in (transformers_logger, hf_logger):
            logger.removeHandler(caplog.handler)
    report = [
        record.getMessage() for record in caplog.records if "2 damaged recordings were left out" in record.getMessage()
    ]
    assert report
    assert all(name in report[0] for name in names)


def test_many_damaged_recordings_are_an_error(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "recordings")
    damage(tmp_path / "recordings", range(5))
    settings = {"duration_s": 0.96, "batch_size": 8, "num_eval": 0, "num_workers": 0, "config": TINY}
    with pytest.raises(ValueError, match=r"of 25 recordings are damaged, such as .*repair or remove them"):
        pretrain(tmp_path / "recordings", tmp_path / "out", num_steps=20, **settings)


def test_a_checkpoint_with_a_fixed_number_is_continued_with_a_ratio(folder: Path, tmp_path: Path) -> None:
    """The official models mask 400 patches: clips under 8 s were masked whole."""
    SSASTForPreTraining(
        pretraining_config("tiny", "patch", mask_ratio=None, num_mask_patches=9, duration_s=0.96, **TINY)
    ).save_pretrained(tmp_path / "model")
    HfASTFeatureExtractor(num_mel_bins=32, max_length=96).save_pretrained(tmp_path / "model")
    model = pretrain(folder, tmp_path / "out", model=tmp_path / "model", num_steps=1, num_workers=0)
    assert model.config.mask_ratio == 9 / 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"duration_s": -1}, "duration_s=-1 must be at least 0.32 s"),
        ({"num_steps": 0}, "num_steps=0 must be positive"),
        ({"num_eval": -1}, "num_eval=-1 must not be negative"),
        ({"resume": True}, "resume=True, but .* holds no saved state"),
    ],
)
def test_wrong_arguments(folder: Path, tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pretrain(folder, tmp_path, **wrong)


def test_read_a_part(folder: Path) -> None:
    path = folder / "part0" / "18.wav"
    whole, rate = audio.read(path)
    part, _ = audio.read(path, start_s=0.5, duration_s=0.25)
    np.testing.assert_array_equal(part, whole[rate // 2 : rate // 2 + rate // 4])
    assert audio.duration(path) == len(whole) / rate
    with pytest.raises(ValueError, match="no samples"):
        audio.read(path, start_s=10.0)


@pytest.mark.parametrize(
    ("kind", "changes", "masks"),
    [
        ("patch", {}, (MASK_RATIO, True)),  # 8 x 64 patches
        ("patch", {"duration_s": 0.8}, (MASK_RATIO, True)),  # 8 x 5
        ("patch", {"duration_s": 0.64}, (0.5, False)),  # 8 x 4: no room for clusters of 5
        ("patch", {"num_mel_bins": 64, "patch_size": (32, 8)}, (0.5, False)),  # 2 x 127
        ("patch", {"duration_s": 0.64, "mask_ratio": 0.3}, (0.3, False)),
        ("frame", {"duration_s": 0.64}, (MASK_RATIO, False)),  # 1 x 32
    ],
)
def test_masks_fit_to_the_grid(kind: str, changes: dict[str, Any], masks: tuple[float, bool]) -> None:
    config = pretraining_config("tiny", kind, **changes)
    assert (config.mask_ratio, config.mask_clusters) == masks


@pytest.mark.parametrize(("size", "kind"), [("huge", "patch"), ("tiny", "square")])
def test_unknown_models(size: str, kind: str) -> None:
    with pytest.raises(ValueError, match=r"is unknown; choose one of"):
        pretraining_config(size, kind)


def test_muon_continues_where_it_was(folder: Path, tmp_path: Path) -> None:
    settings = {"duration_s": 0.96, "batch_size": 4, "eval_every": 2, "num_workers": 0, "config": TINY}
    settings |= {"optimizer": "muon", "num_steps": 4}
    whole = pretrain(folder, tmp_path / "whole", **settings)
    rates = [entry["learning_rate"] for entry in logged(tmp_path / "whole") if "learning_rate" in entry]
    assert max(rates) == pytest.approx(4e-3)
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoints" / "checkpoint-4")
    resumed = pretrain(folder, tmp_path / "resumed", **settings, resume=True)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)
    with pytest.raises(ValueError, match="optimizer='adam' is unknown; choose one of "):
        pretrain(folder, tmp_path / "other", optimizer="adam")
