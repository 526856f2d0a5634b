from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_ast.training.schedules import PatchoutSchedule, exponential_warmup_linear_decay, step_decay
from tests.support.tiny import tiny_model


def optimizer(rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def rates_of(schedule: torch.optim.lr_scheduler.LambdaLR, num_steps: int) -> list[float]:
    rates = []
    for _ in range(num_steps):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize(
    ("steps_per_epoch", "first_epoch", "every_epochs", "factor"),
    [(700, 2, 1, 0.5), (130, 10, 5, 0.5), (60, 5, 1, 0.85), (150, 1, 2, 0.5)],
)
def test_step_decay_is_the_official_training_loop(
    warmup: bool, steps_per_epoch: int, first_epoch: int, every_epochs: int, factor: float
) -> None:
    official = optimizer(1e-3)
    milestones = list(range(first_epoch, 1000, every_epochs))
    scheduler = torch.optim.lr_scheduler.MultiStepLR(official, milestones, gamma=factor)
    expected: list[float] = []
    while len(expected) < 2500:
        for _ in range(steps_per_epoch):
            global_step = len(expected)
            if warmup and global_step <= 1000 and global_step % 50 == 0:
                official.param_groups[0]["lr"] = global_step / 1000 * 1e-3
            official.step()
            expected.append(official.param_groups[0]["lr"])
        scheduler.step()
    ours = step_decay(
        optimizer(1e-3),
        steps_per_epoch,
        first_epoch=first_epoch,
        every_epochs=every_epochs,
        factor=factor,
        warmup=warmup,
    )
    np.testing.assert_allclose(rates_of(ours, len(expected)), expected, rtol=1e-9)


def test_the_schedule_of_passt_is_its_ramps() -> None:
    expected = []
    for epoch in range(130):
        rise = np.exp(-5.0 * (1.0 - np.clip(epoch, 0.5, 5) / 5) ** 2) if epoch < 5 else 1.0
        if epoch <= 50:
            fall = 1.0
        elif epoch - 50 < 50:
            fall = 0.01 + (1.0 - 0.01) * (50 - epoch + 50) / 50
        else:
            fall = 0.01
        expected += [2e-5 * rise * fall] * 3
    np.testing.assert_allclose(rates_of(exponential_warmup_linear_decay(optimizer(2e-5), 3), 390), expected, rtol=1e-9)


def test_schedules_refuse_numbers_that_are_not_positive() -> None:
    with pytest.raises(ValueError, match="steps_per_epoch=0"):
        step_decay(optimizer(1.0), 0, first_epoch=1)
    with pytest.raises(ValueError, match=r"until=0\.0"):
        PatchoutSchedule(until=0.0)
    with pytest.raises(ValueError, match=r"drop_path_rate=\(0\.0, 1\.0\)"):
        PatchoutSchedule(drop_path_rate=(0.0, 1.0))
    with pytest.raises(ValueError, match=r"time_patchout=\(-1, 1\)"):
        PatchoutSchedule(time_patchout=(-1, 1))


class Record(TrainerCallback):
    """What the model drops in each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float, float]] = []

    def on_step_end(self, args, state, control, model, **kwargs) -> None:  # type: ignore[no-untyped-def]
        numbers = model.backbone.embeddings.patchout.numbers
        rates = [layer.drop_path.probability for layer in model.backbone.layers]
        self.seen.append((numbers["time_patchout"], numbers["frequency_patchout"], *rates))


def train(folder: Path, resume: str | None = None) -> list[tuple[int, int, float, float]]:
    model = tiny_model(problem_type="single_label_classification", frequency_patchout=1, drop_path_rate=0.1)
    record = Record()
    schedule = PatchoutSchedule(time_patchout=(0, 6), drop_path_rate=(0.0, 0.4), until=0.5)
    arguments = TrainingArguments(str(folder), max_steps=9, save_steps=3, report_to="none", use_cpu=True)
    data = [{"input_values": torch.randn(50, 32), "labels": 0} for _ in range(8)]
    trainer = Trainer(model, arguments, train_dataset=data, callbacks=[schedule, record])
    trainer.train(resume_from_checkpoint=resume)
    # Afterwards the model is what its config says
    assert model.backbone.embeddings.patchout.numbers["time_patchout"] == 0
    assert [layer.drop_path.probability for layer in model.backbone.layers] == [0.0, 0.1]
    assert (model.config.time_patchout, model.config.drop_path_rate) == (0, 0.1)
    return record.seen


def test_patchout_and_drop_path_climb_and_continue_after_an_interruption(tmp_path: Path) -> None:
    seen = train(tmp_path)
    assert [time for time, *_ in seen] == [0, 2, 3, 4, 6, 6, 6, 6, 6]  # 6 * step / 4, rounded half to even
    assert {frequency for _, frequency, *_ in seen} == {1}
    assert [first for _, _, first, _ in seen] == [0.0] * 9
    assert [last for *_, last in seen] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4])
    assert train(tmp_path, resume=str(tmp_path / "checkpoint-3")) == seen[3:]
