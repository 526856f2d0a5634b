import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import TrainingArguments

from hf_ast import HfASTFeatureExtractor, SSASTForAudioClassification, SSASTForPreTraining, audio
from hf_ast.cli import main
from hf_ast.training.pretraining import (
    Crops,
    PretrainingTrainer,
    find_recordings,
    pretrain,
    pretraining_config,
)
from tests.support.tiny import SIZE

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

    pretrain(folder, tmp_path, num_steps=6, resume=True, **settings)
    assert [entry["step"] for entry in logged(tmp_path) if "loss" in entry] == [1, 2, 3, 4, 5, 6]

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
    recordings = find_recordings(folder)
    assert len(recordings) == 20
    model = SSASTForPreTraining(pretraining_config("tiny", kind, duration_s=0.96, **TINY))
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=model.config.max_length)
    crops = Crops(recordings, extractor)
    assert len(crops) == sum(max(1, round(r.duration_s / crops.duration_s)) for r in recordings)
    longest = len(crops) - 1
    assert not torch.equal(crops[longest]["input_values"], crops[longest]["input_values"])

    fixed = Crops(recordings, extractor, masked_by=model)
    assert len(fixed) == 20
    for index in (0, 19):
        item, again = fixed[index], fixed[index]
        assert all(torch.equal(item[name], again[name]) for name in item)
        columns = model.backbone.embeddings.column_mask(item["attention_mask"][None])
        num_real = int(columns.sum()) * model.backbone.embeddings.num_rows
        assert (item["mask_indices"] >= 0).sum() == max(1, round(num_real * 400 / 512))
    batch = {name: torch.stack([fixed[0][name], fixed[19][name]]) for name in item}
    assert model(**batch).loss.isfinite()


def test_evaluation_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    model = SSASTForPreTraining(pretraining_config("tiny", "patch", duration_s=0.96, **TINY))
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=96)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), prediction_loss_only=True, report_to="none", dataloader_pin_memory=False
    )
    trainer = PretrainingTrainer(
        model, arguments, eval_dataset=Crops(find_recordings(folder), extractor, masked_by=model)
    )
    first, again = trainer.evaluate(), trainer.evaluate()
    for name in ("eval_loss", "eval_classification_loss", "eval_reconstruction_loss", "eval_accuracy"):
        assert first[name] == again[name]


def test_read_a_part(folder: Path) -> None:
    path = folder / "part0" / "18.wav"
    whole, rate = audio.read(path)
    part, _ = audio.read(path, start_s=0.5, duration_s=0.25)
    np.testing.assert_array_equal(part, whole[rate // 2 : rate // 2 + rate // 4])
    assert audio.duration(path) == len(whole) / rate
    with pytest.raises(ValueError, match="no samples"):
        audio.read(path, start_s=10.0)


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["pretrain", str(tmp_path / "nowhere")]) == 1
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("no audio")
    assert main(["pretrain", str(tmp_path)]) == 1
    assert "holds no recording" in capsys.readouterr().err
    arguments = ["pretrain", str(folder), "--output", str(tmp_path / "out"), "--duration", "0.32", "--steps", "1"]
    assert main([*arguments, "--kind", "frame", "--num-workers", "0"]) == 0
    model = SSASTForPreTraining.from_pretrained(tmp_path / "out")
    assert (model.config.patch_size, model.config.max_length, model.config.hidden_size) == ([128, 2], 32, 192)


@pytest.mark.parametrize(("size", "kind"), [("huge", "patch"), ("tiny", "square")])
def test_unknown_models(size: str, kind: str) -> None:
    with pytest.raises(ValueError, match=r"is unknown; choose one of"):
        pretraining_config(size, kind)
