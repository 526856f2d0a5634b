"""Knowledge distillation: a model learns from the labels and from the predictions of a teacher."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer

from hf_ast.models.modeling_common import audio_classification_loss
from hf_ast.models.modules_classification import PROBLEM_TYPES, infer_problem_type


def distillation_loss(
    logits: Tensor, teacher_logits: Tensor, problem_type: str, *, temperature: float = 1.0
) -> Tensor:
    """Kullback-Leibler divergence from the teacher's predictions to the student's, for each clip.

    Its gradient is that of the cross entropy with the teacher's predictions as soft labels, which is the loss of
    PaSST's follow-up work on distillation (https://arxiv.org/abs/2211.04772), but it is 0 where both agree. The factor
    temperature^2 preserves the scale of the gradient (https://arxiv.org/abs/1503.02531).

    Args:
        logits: Of the student, shape (B, C).
        teacher_logits: Shape (B, C).
        problem_type: "single_label_classification": between distributions over the classes;
            "multi_label_classification": the mean over the classes, each an independent decision.
        temperature: Both logits are divided by it.

    Returns:
        Shape (B,), float32.

    Raises:
        ValueError: The problem type is neither of these, the shapes differ, or the temperature is not positive.
    """
    if logits.shape != teacher_logits.shape:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)}, teacher_logits {tuple(teacher_logits.shape)}; student and "
            "teacher must have the same classes."
        )
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be positive.")
    student, teacher = logits.float() / temperature, teacher_logits.float() / temperature
    if problem_type == "single_label_classification":
        divergence = nn.functional.kl_div(
            student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True
        ).sum(1)
    elif problem_type == "multi_label_classification":
        targets = teacher.sigmoid()
        of_student, of_teacher = (
            nn.functional.binary_cross_entropy_with_logits(values, targets, reduction="none")
            for values in (student, teacher)
        )
        divergence = (of_student - of_teacher).mean(1)
    else:
        raise ValueError(f"problem_type={problem_type!r} has no distillation; choose one of {PROBLEM_TYPES[:2]}.")
    return temperature**2 * divergence


class DistillationTrainer(Trainer):
    """Trainer whose loss is (1 - weight) * loss of the labels + weight * `distillation_loss`.

    The teacher sees the same spectrograms as the student, augmented and mixed, but whole: patchout and dropout apply
    to the student only. Both therefore need the same front end. `eval_loss` is that of the labels alone.

    The loss is normalised over the whole optimizer step, so that gradient accumulation and several processes do not
    change the gradient.

    Args:
        teacher: A classifier with the same classes; it is moved to the student's device, and not trained.
        distillation_weight: In [0, 1]; 0.9 in the follow-up work of PaSST.
        temperature: See `distillation_loss`.
        args, kwargs: Arguments of `Trainer`.

    Raises:
        ValueError: The weight is out of range, or the teacher has another number of classes.
    """

    def __init__(
        self,
        *args: Any,
        teacher: PreTrainedModel,
        distillation_weight: float = 0.9,
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        if not 0 <= distillation_weight <= 1:
            raise ValueError(f"distillation_weight={distillation_weight} must be in [0, 1].")
        super().__init__(*args, **kwargs, compute_loss_func=self._combined_loss)  # type: ignore[misc]
        student_config: Any = self.accelerator.unwrap_model(self.model).config
        if teacher.config.num_labels != student_config.num_labels:
            raise ValueError(
                f"teacher has {teacher.config.num_labels} classes, the model {student_config.num_labels}; both must "
                "have the same classes."
            )
        self.student_config = student_config
        self.teacher = teacher.eval().requires_grad_(False).to(self.args.device)
        self.distillation_weight = distillation_weight
        self.temperature = temperature
        self._teacher_logits: Tensor | None = None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss as `Trainer` does; in training, with the teacher's predictions."""
        self._teacher_logits = None
        if model.training:
            with torch.no_grad(), self.accelerator.autocast():
                without_labels = {name: value for name, value in inputs.items() if name != "labels"}
                self._teacher_logits = self.teacher(**without_labels).logits
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _combined_loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Combine both losses, normalised by the label values of the whole step."""
        logits = outputs["logits"]
        label_loss = audio_classification_loss(labels, logits, self.student_config, num_items_in_batch)
        if self._teacher_logits is None:
            return label_loss
        problem_type = self.student_config.problem_type or infer_problem_type(labels, logits.shape[1])
        divergence = distillation_loss(logits, self._teacher_logits, problem_type, temperature=self.temperature)
        if num_items_in_batch is None:
            distilled = divergence.mean()
        else:
            values_per_clip = labels.numel() // len(labels)
            distilled = divergence.sum() * values_per_clip / num_items_in_batch
        return (1 - self.distillation_weight) * label_loss + self.distillation_weight * distilled
