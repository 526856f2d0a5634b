"""Averages of weights: over saved checkpoints, and over the steps or epochs of a training run."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

logger = logging.get_logger(__name__)


def average_checkpoints(folders: Sequence[str | Path]) -> dict[str, Tensor]:
    """Average the weights of checkpoints, as AST does over the last epochs of training (+1 mAP in its paper).

    Use it as `model.load_state_dict(average_checkpoints(sorted(Path(output).glob("checkpoint-*"))))`.

    Args:
        folders: Folders that `save_pretrained` or `Trainer` wrote, with `model.safetensors` in one or several files.

    Returns:
        The state dict. The mean is computed in double precision, and has the dtype of the weights.

    Raises:
        ValueError: No folder is given, a folder holds no weights, or names or shapes of tensors differ.
    """
    if not folders:
        raise ValueError("folders is empty; give the folder of at least one checkpoint.")
    sums: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for folder in tqdm(folders, desc="Averaging", unit="checkpoint"):
        weights = _weights(Path(folder))
        if not sums:
            dtypes = {name: tensor.dtype for name, tensor in weights.items()}
            sums = {name: tensor.double() for name, tensor in weights.items()}
            continue
        if {name: tensor.shape for name, tensor in weights.items()} != {k: v.shape for k, v in sums.items()}:
            different = sorted(weights.keys() ^ sums.keys()) or ["shapes of tensors"]
            raise ValueError(
                f"{str(folders[0])!r} and {str(folder)!r} hold different models: {', '.join(different[:3])}."
            )
        for name, tensor in weights.items():
            sums[name] += tensor
    return {name: (total / len(folders)).to(dtypes[name]) for name, total in sums.items()}


def _weights(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("model.safetensors")) or sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        raise ValueError(f"folder {str(folder)!r} holds no model.safetensors; give what save_pretrained wrote.")
    return {name: tensor for file in files for name, tensor in _read(file)[0].items()}


class AveragingCallback(TrainerCallback):
    """Base of `EMACallback` and `SWACallback`: an average of the trainable weights that is kept during training.

    The average is in float32 and on the device of the weights. It is saved with every checkpoint of `Trainer`, read
    back by `resume_from_checkpoint`, and copied into the model after training. Until then, evaluations use the current
    weights. `average` holds the tensors by name; `load_file(checkpoint / FILE_NAME)` reads a saved average.

    Args:
        average_into: Updates averaged tensors, like the functions of `torch.optim.swa_utils`.
        resume_from: Checkpoint to resume from, if it is not in `output_dir`.
    """

    FILE_NAME: ClassVar[str]

    def __init__(self, average_into: Callable[..., None], resume_from: str | Path | None = None):
        self.average_into = average_into
        self.resume_from = resume_from
        self.average: dict[str, Tensor] = {}
        self.num_averaged = 0

    def is_due(self, state: TrainerState) -> bool:
        """Return whether the weights after this step go into the average."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Include the weights of a model in the average."""
        current = {name: p.detach().float() for name, p in model.named_parameters() if p.requires_grad}
        if self.num_averaged == 0:
            self.average = {name: tensor.clone() for name, tensor in current.items()}
        else:
            averaged = [self.average[name] for name in current]
            self.average_into(averaged, list(current.values()), self.num_averaged)
        self.num_averaged += 1

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Copy the average into a model."""
        parameters = dict(model.named_parameters())
        for name, tensor in self.average.items():
            parameters[name].copy_(tensor)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start a new average, or restore that of the checkpoint that is resumed."""
        by_accelerate = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
        if args.fsdp or args.deepspeed or by_accelerate:
            raise ValueError(
                f"{type(self).__name__} needs whole weights in every process, which FSDP and DeepSpeed split; save "
                "checkpoints and use average_checkpoints."
            )
        if args.load_best_model_at_end:
            raise ValueError(
                f"load_best_model_at_end=True would be undone by {type(self).__name__}, which leaves the average in "
                "the model; choose one of them."
            )
        self.average, self.num_averaged = {}, 0
        if state.global_step == 0:
            return
        folder = self.resume_from or checkpoint_folder(args, state)
        file = Path(folder) / self.FILE_NAME
        if not file.is_file():
            raise ValueError(
                f"{str(file)!r} does not exist, so the average of the interrupted training is lost; give "
                "resume_from= if the checkpoint is in another folder, or train without this callback."
            )
        tensors, facts = _read(file)
        parameters = dict(kwargs["model"].named_parameters())
        self.average = {name: tensor.to(parameters[name].device) for name, tensor in tensors.items()}
        self.num_averaged = int(facts["num_averaged"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the average if it is due."""
        if self.is_due(state):
            self.update(kwargs["model"])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save the average beside the checkpoint."""
        if state.is_world_process_zero:
            tensors = {name: tensor.contiguous() for name, tensor in self.average.items()}
            save_file(
                tensors,
                checkpoint_folder(args, state) / self.FILE_NAME,
                metadata={"num_averaged": str(self.num_averaged)},
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the average in the model."""
        if self.num_averaged == 0:
            logger.warning(f"{type(self).__name__} has averaged nothing; the model keeps its last weights.")
        self.copy_to(kwargs["model"])


class EMACallback(AveragingCallback):
    """Exponential moving average: after every step, average = decay * average + (1 - decay) * weights.

    Args:
        decay: In [0, 1). The average covers about 1 / (1 - decay) steps: 0.999 suits a few thousand steps of training.
        resume_from: See `AveragingCallback`.
    """

    FILE_NAME = "ema.safetensors"

    def __init__(self, decay: float = 0.999, *, resume_from: str | Path | None = None):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be in [0, 1).")
        super().__init__(get_ema_multi_avg_fn(decay), resume_from)

    def is_due(self, state: TrainerState) -> bool:
        """Return True: every step counts."""
        return True


class SWACallback(AveragingCallback):
    """Stochastic weight averaging: the mean of the weights at the ends of epochs (https://arxiv.org/abs/1803.05407).

    The learning rate should not be close to 0 in these epochs. PaSST averages every fifth epoch from the fiftieth on.

    Args:
        first_epoch: The first epoch that counts, at least 1.
        every_epochs: Epochs from one that counts to the next one.
        resume_from: See `AveragingCallback`.
    """

    FILE_NAME = "swa.safetensors"

    def __init__(self, first_epoch: int, every_epochs: int = 1, *, resume_from: str | Path | None = None):
        for name, value in (("first_epoch", first_epoch), ("every_epochs", every_epochs)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        super().__init__(get_swa_multi_avg_fn(), resume_from)
        self.first_epoch = first_epoch
        self.every_epochs = every_epochs

    def is_due(self, state: TrainerState) -> bool:
        """Return whether an epoch that counts ends with this step."""
        # Not `on_epoch_end`, which comes after the checkpoint of the last step
        epoch = state.epoch or 0.0
        return (
            epoch == round(epoch)
            and epoch >= self.first_epoch
            and (round(epoch) - self.first_epoch) % self.every_epochs == 0
        )


def checkpoint_folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Return the folder in which `Trainer` saves this step."""
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file."""
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
