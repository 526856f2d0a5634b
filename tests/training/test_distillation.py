import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments, set_seed

from hf_ast.training.distillation import DistillationTrainer, distillation_loss
from tests.support.tiny import tiny_model, tiny_passt

SINGLE, MULTI = "single_label_classification", "multi_label_classification"


def logits(seed: int) -> Tensor:
    return 2 * torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_losses_are_their_definitions(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    single, multi = [], []
    for of_student, of_teacher in zip((student / temperature).tolist(), (teacher / temperature).tolist(), strict=True):
        p = [math.exp(value) / sum(map(math.exp, of_teacher)) for value in of_teacher]
        q = [math.exp(value) / sum(map(math.exp, of_student)) for value in of_student]
        single.append(temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        divergence = 0.0
        for s, t in zip(of_student, of_teacher, strict=True):
            a, b = 1 / (1 + math.exp(-t)), 1 / (1 + math.exp(-s))
            divergence += a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
        multi.append(temperature**2 * divergence / 5)
    for problem_type, expected in ((SINGLE, single), (MULTI, multi)):
        loss = distillation_loss(student, teacher, problem_type, temperature=temperature)
        torch.testing.assert_close(loss, torch.tensor(expected), atol=1e-5, rtol=1e-5)
        same = distillation_loss(teacher, teacher, problem_type, temperature=temperature)
        torch.testing.assert_close(same, torch.zeros(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("problem_type", [SINGLE, MULTI])
def test_the_gradient_is_that_of_the_predictions_as_soft_labels(problem_type: str) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    distillation_loss(student, teacher, problem_type).mean().backward()
    other = student.detach().clone().requires_grad_()
    if problem_type == SINGLE:
        torch.nn.functional.cross_entropy(other, teacher.softmax(1)).backward()
    else:
        torch.nn.functional.binary_cross_entropy_with_logits(other, teacher.sigmoid()).backward()
    torch.testing.assert_close(student.grad, other.grad)


def test_errors_name_the_argument(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"logits has shape \(4, 5\), teacher_logits \(4, 3\)"):
        distillation_loss(logits(0), logits(1)[:, :3], SINGLE)
    with pytest.raises(ValueError, match="temperature=0"):
        distillation_loss(logits(0), logits(1), SINGLE, temperature=0)
    with pytest.raises(ValueError, match="problem_type='regression' has no distillation"):
        distillation_loss(logits(0), logits(1), "regression")
    with pytest.raises(ValueError, match="teacher has 3 classes, the model 5"):
        DistillationTrainer(tiny_model(), arguments(tmp_path), teacher=tiny_passt(num_labels=3))
    with pytest.raises(ValueError, match=r"distillation_weight=1\.5"):
        DistillationTrainer(tiny_model(), arguments(tmp_path), teacher=tiny_passt(), distillation_weight=1.5)


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    return TrainingArguments(
        str(folder), max_steps=3, learning_rate=0.01, save_strategy="no", logging_steps=1, report_to="none",
        use_cpu=True, **settings,
    )  # fmt: skip


def label(problem_type: str, soft: bool, number: int) -> Any:
    if problem_type == MULTI:
        return torch.tensor([float((number >> bit) & 1) for bit in range(5)])
    return 0.8 * torch.eye(5)[number % 5] + 0.04 if soft else number % 5


@pytest.mark.parametrize(("problem_type", "soft"), [(SINGLE, False), (SINGLE, True), (MULTI, True)])
def test_the_loss_does_not_depend_on_how_a_step_is_cut(problem_type: str, soft: bool, tmp_path: Path) -> None:
    """Losses of three steps of 8 clips, in one batch and in four; and the first one against its definition."""
    generator = torch.Generator().manual_seed(0)
    data = [
        {"input_values": torch.randn(50, 32, generator=generator), "labels": label(problem_type, soft, number)}
        for number in range(8)
    ]
    teacher, losses = tiny_passt(seed=3), []
    for batch_size in (8, 2):
        set_seed(0)
        settings = arguments(
            tmp_path, per_device_train_batch_size=batch_size, gradient_accumulation_steps=8 // batch_size
        )
        trainer = DistillationTrainer(
            tiny_model(problem_type=problem_type),
            settings,
            teacher=teacher,
            distillation_weight=0.7,
            temperature=2.0,
            train_dataset=data,
            eval_dataset=data,
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert not teacher.training
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), atol=1e-4, rtol=1e-4)

    student = tiny_model(problem_type=problem_type)
    inputs = torch.stack([row["input_values"] for row in data])
    with torch.no_grad():
        outputs = student(inputs, labels=torch.stack([torch.as_tensor(row["labels"]) for row in data]))
        distilled = distillation_loss(outputs.logits, teacher(inputs).logits, problem_type, temperature=2.0).mean()
    assert losses[0][0] == pytest.approx((0.3 * outputs.loss + 0.7 * distilled).item(), rel=1e-4)

    trainer.model.load_state_dict(student.state_dict())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(outputs.loss.item(), rel=1e-4)
