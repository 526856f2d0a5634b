import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments, set_seed

from hf_ast import HfASTFeatureExtractor
from hf_ast.models.modules_passt_mel import PaSSTMel
from hf_ast.training.augmentation import Augmentation
from hf_ast.training.collation import TrainingCollator
from hf_ast.training.sampling import TrainingRows, class_balanced_weights, seeded_generator
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


def test_augmentation_is_applied_in_the_official_order_with_one_generator() -> None:
    extractor, augmentation = ast_extractor(), EVERYTHING
    rows = in_epoch(TrainingRows(clips(4)), 3)
    batch = TrainingCollator(extractor, augmentation, num_labels=5, multi_label=False, seed=7)(rows)
    generator = seeded_generator(7, 3, 0, 1, 2, 3)
    one_hot = torch.eye(5)[[0, 1, 2, 3]]
    mixed, labels = augmentation.waveforms([torch.from_numpy(row["waveform"]) for row in rows], one_hot, generator)
    features = extractor(mixed, sampling_rate=16000, return_tensors="pt")["input_values"]
    # Of AST, 0 before the normalisation is both what it masks and what it pads with
    features = augmentation.features(features, None, generator, mask_value=extractor.padding_value)
    expected, labels = augmentation.mixed_features(features, labels, None, generator)
    torch.testing.assert_close(batch["input_values"], expected, atol=0, rtol=0)
    torch.testing.assert_close(batch["labels"], 0.9 * labels + 0.1 / 5, atol=1e-6, rtol=0)
    assert (batch["labels"] - one_hot).abs().max() > 0.2


def test_padding_stays_padding() -> None:
    rows = clips(3)
    rows[1]["waveform"] = rows[1]["waveform"][:4000]
    batch = TrainingCollator(passt_extractor(), EVERYTHING, num_labels=5, multi_label=True)(
        in_epoch(TrainingRows(rows))
    )
    padded = batch["attention_mask"] == 0
    assert padded.sum() == 7  # 20 and 13 frames of 320 samples, which 6400 and 4000 samples make
    assert (batch["input_values"][padded] == passt_extractor().padding_value).all()


def test_jitter_of_the_mel_scale_is_that_of_the_training_front_end() -> None:
    augmentation = Augmentation(low_frequency_jitter_hz=10, high_frequency_jitter_hz=2000)
    extractor, rows = passt_extractor(), in_epoch(TrainingRows(clips(2)))
    collator = TrainingCollator(extractor, augmentation, num_labels=5, multi_label=False)
    front_end = PaSSTMel.from_extractor(
        extractor, low_frequency_jitter_hz=10, high_frequency_jitter_hz=2000, max_mel_mask=0, max_time_mask=0
    )
    draws = front_end.draw(2, seeded_generator(0, 0, 0, 1))
    expected = front_end(torch.from_numpy(np.stack([row["waveform"] for row in rows])), draws=draws)
    batch = collator(rows)
    torch.testing.assert_close(batch["input_values"], expected)
    assert batch["labels"].tolist() == [0, 1]
    plain = TrainingCollator(extractor, num_labels=5, multi_label=False)(rows)
    assert (batch["input_values"] - plain["input_values"]).abs().max() > 0.03
    assert extractor.high_frequency_hz == passt_extractor().high_frequency_hz
    with pytest.raises(ValueError, match=r"HfASTFeatureExtractor without .*low_frequency_hz"):
        TrainingCollator(ast_extractor(), augmentation, num_labels=5, multi_label=False)


def test_rows_of_evaluation_are_not_augmented() -> None:
    augmented = TrainingCollator(ast_extractor(), EVERYTHING, num_labels=5, multi_label=False)(clips(3))
    plain = TrainingCollator(ast_extractor(), num_labels=5, multi_label=False)(clips(3))
    for name, tensor in plain.items():
        torch.testing.assert_close(augmented[name], tensor, atol=0, rtol=0)


def test_draws_depend_on_seed_epoch_and_rows_only() -> None:
    rows = TrainingRows(clips(4))

    def batch(epoch: int, seed: int = 0, indices: tuple[int, ...] = (0, 1)) -> Tensor:
        collator = TrainingCollator(ast_extractor(), EVERYTHING, num_labels=5, multi_label=False, seed=seed)
        rows.set_epoch(epoch)
        torch.rand(3)  # the global generator does not matter
        return collator([rows[index] for index in indices])["input_values"]

    torch.testing.assert_close(batch(1), batch(1), atol=0, rtol=0)
    for other in (batch(2), batch(1, seed=1)):
        assert not torch.equal(batch(1), other)
    assert not torch.equal(batch(1, indices=(0, 1))[0], batch(1, indices=(0, 2))[0])


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
        data_collator=TrainingCollator(extractor, EVERYTHING, num_labels=5, multi_label=False),
        callbacks=[rows],
    )
    trainer.train(resume_from_checkpoint=resume)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return dict(model.state_dict()) | {"losses": torch.tensor(losses)}


def balanced_rows(num_clips: int = 6) -> TrainingRows:
    rows = clips(num_clips)
    weights = class_balanced_weights([row["labels"] for row in rows], 5)
    return TrainingRows(rows, weights=weights)


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


def test_gradient_checkpointing_and_bf16_work_with_the_parts(tmp_path: Path) -> None:
    for passt in (False, True):
        plain = trained(tmp_path, balanced_rows(), passt=passt, save_strategy="no")
        checkpointed = trained(
            tmp_path, balanced_rows(), passt=passt, activation_checkpointing=True, save_strategy="no"
        )
        half = trained(tmp_path, balanced_rows(), passt=passt, bf16=True, save_strategy="no")
        torch.testing.assert_close(checkpointed["losses"], plain["losses"], atol=1e-4, rtol=1e-4)
        # bf16 has 8 bits of mantissa; errors add up over the layers and six steps
        torch.testing.assert_close(half["losses"], plain["losses"], atol=0.1, rtol=0.1)
        assert not torch.equal(half["losses"], plain["losses"])
