"""`Trainer` for masked-patch pretraining, whose steps do not depend on how their clips are divided."""

from collections.abc import Callable, Iterator, Sized
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_ast import SSASTConfig

from .crops import ClipMasks
from .guards import GuardedTrainer
from .schedules import warmup_cosine

logger = logging.get_logger(__name__)

# Share of the steps in which the learning rate rises
WARMUP = 0.05
MakeOptimizer = Callable[[PreTrainedModel], torch.optim.Optimizer]


class PretrainingTrainer(GuardedTrainer):
    """Trainer for masked-patch pretraining.

    The loss of a step is the mean over all patches that are masked in it, no matter how its clips are distributed over
    accumulated batches and processes. The mean of the batches' means would give more weight to clips in batches with
    few masked patches. Where several processes share an epoch whose last clips are too few for all of them, Accelerate
    repeats clips; these are ignored here.

    Clips may come with masks as `mask_indices`, as those of `Crops` do. For others, masks are drawn before the first
    forward pass of a step, for each clip from the seed, the step and the place of the clip in the step.

    Both losses and the accuracy are logged, as means since the last log or over the whole evaluation.

    Args:
        make_optimizer: Makes the optimiser for the model, instead of the one that the arguments name.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, make_optimizer: MakeOptimizer | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.make_optimizer = make_optimizer
        self.masks = ClipMasks(self.accelerator.unwrap_model(self.model).config)
        # Logged name -> pairs of a weighted value and its weight; separately for training and evaluation
        self.parts: dict[bool, dict[str, list[Tensor]]] = {True: {}, False: {}}

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimiser of `make_optimizer`, or else the one that the arguments name."""
        if self.optimizer is None and self.make_optimizer is not None:
            network: Any = self.model if model is None else model
            self.optimizer = self.make_optimizer(network)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Make a schedule for any number of steps: a rise over a twentieth of them, and a cosine down."""
        if self.lr_scheduler is None:
            own: Any = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = warmup_cosine(own, num_training_steps, warmup=WARMUP)
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Return the batches of a step, with `mask_indices`, and the number of masked patches in all of them."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        num_masked = torch.zeros((), dtype=torch.long, device=device)
        for number, batch in enumerate(batches):
            frame_mask = batch.get("attention_mask")
            if frame_mask is None:
                frame_mask = torch.ones_like(batch["input_values"][..., 0])
            if "mask_indices" not in batch:
                batch["mask_indices"] = self._drawn_masks(frame_mask, number)
            if number == len(batches) - 1:
                self._leave_out_repeated(batch, self._num_in_last_round(), self.args.train_batch_size)
            num_masked += self.masks.count(batch["mask_indices"], frame_mask).to(device)
        if self.args.world_size > 1:
            num_masked = self.accelerator.gather(num_masked).sum()
        return batches, num_masked.clamp(min=1)

    def _drawn_masks(self, frame_mask: Tensor, number: int) -> Tensor:
        """Draw masks (B, K) for the batch with this number among those of a step in this process."""
        first = (number * self.args.world_size + self.args.process_index) * self.args.train_batch_size
        seed = (self.args.seed, self.state.global_step)
        drawn = [self.masks.draw(mask, *seed, first + row) for row, mask in enumerate(frame_mask)]
        return torch.stack(drawn).to(frame_mask.device)

    def _num_in_last_round(self) -> int:
        """Return the number of clips that are left for the last batches of all processes; 0 if these are full."""
        if self.args.dataloader_drop_last or not isinstance(self.train_dataset, Sized):
            return 0
        # `gradient_state.remainder`, which is meant for this, is wrong after training was resumed
        return len(self.train_dataset) % (self.args.train_batch_size * self.args.world_size)

    def _leave_out_repeated(self, batch: dict[str, Tensor], num_left: int, batch_size: int) -> None:
        """Mask nothing in the clips that are in the last batch only to make it as large as those of other processes.

        Args:
            batch: A batch, which is changed if it is the last one of the epoch.
            num_left: Number of clips that are left for the last batches of all processes.
            batch_size: Clips per batch.
        """
        if self.args.world_size > 1 and num_left > 0 and self.accelerator.gradient_state.end_of_dataloader:
            num_own = max(0, num_left - self.args.process_index * batch_size)
            batch["mask_indices"] = batch["mask_indices"].clone()
            batch["mask_indices"][num_own:] = -1

    def prediction_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Evaluate a batch as `Trainer` does, without the clips that are repeated."""
        if "mask_indices" in inputs:
            num_left = self.accelerator.gradient_state.remainder
            self._leave_out_repeated(inputs, num_left, self.args.eval_batch_size)
        return super().prediction_step(model, inputs, *args, **kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss as `Trainer` does; `num_items_in_batch` counts the masked patches of the whole step."""
        outputs = model(**inputs)
        # In evaluation, batches are weighted by their number of clips, as Trainer does
        loss, weight = outputs.loss.mean(), (outputs.mask_lengths > 0).sum().float()
        if num_items_in_batch is not None:
            weight = outputs.mask_lengths.sum() / num_items_in_batch
            # Gradients are averaged over processes, but this loss is a part of a sum
            loss = loss * weight * max(1, self.args.world_size)
        parts = self.parts[model.training]
        for name in SSASTConfig.keys_to_ignore_at_inference:
            value = getattr(outputs, name)
            if value is not None:
                weighted = torch.stack((value.detach().mean() * weight.to(value.device), weight.to(value.device)))
                parts.setdefault(name, []).append(weighted)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add losses and accuracy to `logs`, which is also the result of `evaluate`, and log them."""
        for name, training in (("loss", True), ("eval_loss", False)):
            if name in logs:
                for part, values in self.parts[training].items():
                    sums = torch.stack(values).sum(dim=0)
                    if self.args.world_size > 1:
                        sums = self.accelerator.reduce(sums, "sum")
                    total, weight = sums
                    logs[name.replace("loss", part)] = (total / weight).item()
                self.parts[training].clear()
        super().log(logs, *args, **kwargs)
