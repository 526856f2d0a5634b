import math
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BatchFeature, Trainer, TrainingArguments, set_seed

from hf_ast import HfASTFeatureExtractor
from hf_ast.models.modules_passt_mel import PaSSTMel
from hf_ast.training.augmentation import Augmentation, mixup_waveforms, mixup_weights
from hf_ast.training.collation import TrainingCollator
from hf_ast.training.sampling import (
    CLIP_DRAWS,
    PARTNER_DRAWS,
    TrainingRows,
    class_balanced_weights,
    seeded_generator,
)
from tests.support.tiny import passt_extractor, tiny_model, tiny_passt, waveforms

EVERYTHING = Augmentation(
    mixup_probability=0.8,
    spectrogram_mixup_alpha=0.3,
    label_smoothing=0.1,
    max_gain_db=7,
    max_shift=50,
    max_mel_mask=8,
    max_time_mask=12,
    max_noise=0.1,
    max_roll=10,
)


def ast_extractor(**settings: Any) -> HfASTFeatureExtractor:
    return HfASTFeatureExtractor(num_mel_bins=32, max_length=50, **settings)


def clips(num_clips: int, *, num_samples: int = 6400, seed: int = 0) -> list[dict[str, Any]]:
    data = waveforms(num_clips, num_samples, seed=seed).numpy()
    return [{"waveform": waveform, "labels": index % 5} for index, waveform in enumerate(data)]


def in_epoch(rows: TrainingRows, epoch: int = 0) -> list[dict[str, Any]]:
    rows.set_epoch(epoch)
    return [rows[index] for index in range(len(rows))]


def test_batches_are_what_the_extractor_gives_in_inference() -> None:
    rows = clips(2)
    rows[1]["waveform"] = rows[1]["waveform"][:4000]
    for extractor in (ast_extractor(), ast_extractor(return_attention_mask=True), passt_extractor()):
        batch = TrainingCollator(extractor, num_labels=5, multi_label=False)(rows)
        rate = extractor.sampling_rate
        expected = extractor([row["waveform"] for row in rows], sampling_rate=rate, return_tensors="pt")
        labels = batch.pop("labels")
        assert batch.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(batch[name], tensor, atol=0, rtol=0)
        assert labels.tolist() == [0, 1]
        assert labels.dtype == torch.long
    same_length = TrainingCollator(passt_extractor(), num_labels=5, multi_label=False)(clips(2))
    assert "attention_mask" not in same_length


def test_labels_of_every_kind() -> None:
    rows = [{"waveform": np.ones(6400), "labels": labels} for labels in ([0, 3], [], np.eye(5)[2])]
    batch = TrainingCollator(ast_extractor(), num_labels=5, multi_label=True)(rows)
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]
    soft = [{"waveform": np.ones(6400), "labels": np.full(5, 0.2)}]
    torch.testing.assert_close(
        TrainingCollator(ast_extractor(), num_labels=5, multi_label=False)(soft)["labels"], torch.full((1, 5), 0.2)
    )
    assert "labels" not in TrainingCollator(ast_extractor(), num_labels=5, multi_label=False)(
        [{"waveform": np.ones(6400)}]
    )


def test_augmentation_is_applied_in_the_official_order() -> None:
    extractor, augmentation = ast_extractor(), replace(EVERYTHING, mixup_probability=1.0)
    data = clips(4)
    rows = in_epoch(TrainingRows(data, augmentation, seed=7), 3)
    batch = TrainingCollator(extractor, num_labels=5, multi_label=False)(rows)

    def augmented(index: int) -> tuple[Tensor, Tensor]:
        generator = seeded_generator(7, 3, index, CLIP_DRAWS)
        own = augmentation.waveform(torch.from_numpy(data[index]["waveform"]), generator)
        torch.rand((), generator=generator)  # whether it is mixed
        partner = int(torch.randint(4, (), generator=generator))
        weight = mixup_weights(1, generator=generator)[0]
        other = augmentation.waveform(torch.from_numpy(data[partner]["waveform"]), generator)
        features = extractor(mixup_waveforms(own, other, weight), sampling_rate=16000, return_tensors="pt")
        # Of AST, 0 before the normalisation is both what it masks and what it pads with
        values = augmentation.features(features["input_values"], None, generator, mask_value=extractor.padding_value)
        return values[0], weight * torch.eye(5)[index] + (1 - weight) * torch.eye(5)[partner]

    for index in range(4):
        (own, labels), generator = augmented(index), seeded_generator(7, 3, index, PARTNER_DRAWS)
        weight = mixup_weights(1, 0.3, favors_own=True, generator=generator)[0]
        other, other_labels = augmented(int(torch.randint(4, (), generator=generator)))
        torch.testing.assert_close(batch["input_values"][index], weight * own + (1 - weight) * other)
        soft = weight * labels + (1 - weight) * other_labels
        torch.testing.assert_close(batch["labels"][index], 0.9 * soft + 0.1 / 5)
    assert (batch["labels"] - torch.eye(5)[:4]).abs().max() > 0.2


@pytest.mark.parametrize("passt", [False, True])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_row_is_the_same_in_every_batch(passt: bool, multi_label: bool) -> None:
    augmentation, extractor = EVERYTHING, ast_extractor()
    if passt:
        augmentation = replace(EVERYTHING, low_frequency_jitter_hz=10, high_frequency_jitter_hz=2000)
        extractor = passt_extractor()
    data = clips(5)
    for number, row in enumerate(data):
        row["waveform"] = row["waveform"][: 6400 - 900 * number]
    rows = in_epoch(TrainingRows(data, augmentation), 2)
    collator = TrainingCollator(extractor, num_labels=5, multi_label=multi_label)
    together = collator(rows)
    for cut in ([0, 1], [1, 2, 3], [4], [3, 0]):
        batch = collator([rows[index] for index in cut])
        num_frames = batch["input_values"].shape[1]
        torch.testing.assert_close(batch["input_values"], together["input_values"][cut, :num_frames], atol=0, rtol=0)
        torch.testing.assert_close(batch["labels"], together["labels"][cut], atol=0, rtol=0)
        if passt:
            masks = batch.get("attention_mask", torch.ones(len(cut), num_frames, dtype=torch.long))
            torch.testing.assert_close(masks, together["attention_mask"][cut, :num_frames], atol=0, rtol=0)


def test_mixed_clips_have_the_labels_of_what_is_heard() -> None:
    class Heard(HfASTFeatureExtractor):
        """Gives the waveforms themselves."""

        def __call__(self, raw_speech: Any, *arguments: Any, **settings: Any) -> BatchFeature:
            return BatchFeature({"input_values": torch.stack(list(raw_speech))[:, :, None]})

    # Clips that are orthogonal, so that projections tell the weights
    sines = torch.stack([torch.sin(2 * math.pi * (n + 1) * torch.arange(64) / 32) for n in range(3)])
    data = [{"waveform": sine.numpy(), "labels": n} for n, sine in enumerate(sines)]
    collator = TrainingCollator(Heard(num_mel_bins=32), num_labels=3, multi_label=False)
    rows = TrainingRows(data, Augmentation(mixup_probability=0.7))
    num_mixed = 0
    for epoch in range(40):
        batch = collator(in_epoch(rows, epoch))
        torch.testing.assert_close(batch["input_values"][:, :, 0] @ sines.T / 32, batch["labels"], atol=1e-5, rtol=0)
        num_mixed += int((batch["labels"].max(1).values < 0.999).sum())
    # 0.7 times the 2/3 of partners that are other clips; five standard deviations of 120 draws are 0.23
    assert num_mixed / 120 == pytest.approx(0.7 * 2 / 3, abs=0.23)


def test_rows_that_do_not_count_have_no_label() -> None:
    for multi_label, augmentation in ((False, None), (False, EVERYTHING), (True, EVERYTHING)):
        rows = TrainingRows(clips(2), augmentation)
        rows.set_epoch(0)
        batch = TrainingCollator(ast_extractor(), num_labels=5, multi_label=multi_label)([rows[1], rows[None]])
        assert (batch["labels"][1] == -100).all()
        assert (batch["labels"][0] >= 0).all()


def test_padding_stays_padding() -> None:
    rows = clips(3)
    rows[1]["waveform"] = rows[1]["waveform"][:4000]
    batch = TrainingCollator(passt_extractor(), num_labels=5, multi_label=True)(
        in_epoch(TrainingRows(rows, EVERYTHING))
    )
    padded = batch["attention_mask"] == 0
    assert padded.sum() == 7  # 20 and 13 frames of 320 samples, which 6400 and 4000 samples make
    assert (batch["input_values"][padded] == passt_extractor().padding_value).all()


def test_jitter_of_the_mel_scale_is_that_of_the_training_front_end() -> None:
    augmentation = Augmentation(low_frequency_jitter_hz=10, high_frequency_jitter_hz=2000)
    extractor, rows = passt_extractor(), in_epoch(TrainingRows(clips(2), augmentation))
    collator = TrainingCollator(extractor, num_labels=5, multi_label=False)
    front_end = PaSSTMel.from_extractor(
        extractor, low_frequency_jitter_hz=10, high_frequency_jitter_hz=2000, max_mel_mask=0, max_time_mask=0
    )
    batch = collator(rows)
    for index, row in enumerate(rows):
        draws = front_end.draw(1, seeded_generator(0, 0, index, CLIP_DRAWS))
        expected = front_end(torch.from_numpy(row["waveform"])[None], draws=draws)
        torch.testing.assert_close(batch["input_values"][index], expected[0])
    assert batch["labels"].tolist() == [0, 1]
    plain = collator(clips(2))
    assert (batch["input_values"] - plain["input_values"]).abs().max() > 0.03
    assert extractor.high_frequency_hz == passt_extractor().high_frequency_hz
    with pytest.raises(ValueError, match=r"HfASTFeatureExtractor without .*low_frequency_hz"):
        TrainingCollator(ast_extractor(), num_labels=5, multi_label=False)(rows)


def test_draws_depend_on_seed_epoch_and_row_only() -> None:
    collator = TrainingCollator(ast_extractor(), num_labels=5, multi_label=False)

    def batch(epoch: int, seed: int = 0) -> Tensor:
        torch.rand(3)  # the global generator does not matter
        return collator(in_epoch(TrainingRows(clips(2), EVERYTHING, seed=seed), epoch))["input_values"]

    torch.testing.assert_close(batch(1), batch(1), atol=0, rtol=0)
    for other in (batch(2), batch(1, seed=1)):
        assert not torch.equal(batch(1), other)


def test_errors_tell_the_way_out() -> None:
    collator = TrainingCollator(ast_extractor(), num_labels=5, multi_label=False)
    with pytest.raises(ValueError, match="remove_unused_columns=False"):
        collator([{"labels": 0}])
    rows = clips(2)
    del rows[1]["labels"]
    with pytest.raises(ValueError, match="'labels' is in 1 of 2 rows"):
        collator(rows)


def trained(folder: Path, rows: TrainingRows, *, passt: bool = False, **settings: Any) -> dict[str, Tensor]:
    set_seed(0)
    resume = settings.pop("resume", None)
    model = (
        tiny_passt(problem_type="single_label_classification")
        if passt
        else tiny_model(problem_type="single_label_classification", drop_path_rate=0.3, time_patchout=2)
    )
    extractor = passt_extractor() if passt else ast_extractor()
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=2,
        num_train_epochs=2,
        learning_rate=1e-3,
        remove_unused_columns=False,
        save_steps=1,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **settings,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=rows,
        eval_dataset=clips(2, seed=9),
        data_collator=TrainingCollator(extractor, num_labels=5, multi_label=False),
        callbacks=[rows],
    )
    trainer.train(resume_from_checkpoint=resume)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return dict(model.state_dict()) | {"losses": torch.tensor(losses)}


def balanced_rows(num_clips: int = 6) -> TrainingRows:
    rows = clips(num_clips)
    weights = class_balanced_weights([row["labels"] for row in rows], 5)
    return TrainingRows(rows, EVERYTHING, weights=weights)


def test_a_resumed_training_draws_the_same_also_in_worker_processes(tmp_path: Path) -> None:
    whole = trained(tmp_path, balanced_rows())
    # Step 4 of 6 is in the middle of the second epoch
    resumed = trained(tmp_path, balanced_rows(), resume=str(tmp_path / "checkpoint-4"))
    in_workers = trained(tmp_path / "workers", balanced_rows(), dataloader_num_workers=2)
    assert len(whole["losses"]) == 6
    for other in (resumed, in_workers):
        torch.testing.assert_close(other["losses"], whole["losses"], atol=0, rtol=0)
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name], atol=0, rtol=0, msg=name)


def train_in_process(rank: int, port: int, folder: Path, name: str, resume: str | None) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    result = trained(folder, balanced_rows(8), resume=resume)
    if rank == 0:
        torch.save(result, folder / name)


@pytest.mark.slow
def test_two_processes_draw_the_same_after_an_interruption(tmp_path: Path) -> None:
    results = []
    # Step 3 of 4 is in the middle of the second epoch
    for name, resume in (("whole", None), ("resumed", str(tmp_path / "checkpoint-3"))):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
        torch.multiprocessing.spawn(train_in_process, (port, tmp_path, name, resume), nprocs=2)
        results.append(torch.load(tmp_path / name))
    assert len(results[0]["losses"]) == 4
    torch.testing.assert_close(results[1], results[0], atol=0, rtol=0)


@pytest.mark.parametrize("passt", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ast", "passt"])
def test_gradient_checkpointing_and_bf16_work_with_the_parts(passt: bool, tmp_path: Path) -> None:
    plain = trained(tmp_path, balanced_rows(), passt=passt, save_strategy="no")
    checkpointed = trained(tmp_path, balanced_rows(), passt=passt, gradient_checkpointing=True, save_strategy="no")
    half = trained(tmp_path, balanced_rows(), passt=passt, bf16=True, save_strategy="no")
    torch.testing.assert_close(checkpointed["losses"], plain["losses"], atol=1e-4, rtol=1e-4)
    # bf16 has 8 bits of mantissa; errors add up over the layers and six steps
    torch.testing.assert_close(half["losses"], plain["losses"], atol=0.1, rtol=0.1)
    assert not torch.equal(half["losses"], plain["losses"])
