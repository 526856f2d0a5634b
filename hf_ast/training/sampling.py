"""Which rows a training epoch has: class-balanced as in the official code, with reproducible draws.

`Trainer` needs no special sampler for this: `TrainingRows` is a dataset in which the rows of an epoch are already
drawn, and which `Trainer` shuffles like any other.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .augmentation import Augmentation

# Labels of one clip: a class, several classes, or a number for each class
Labels = int | Sequence[int] | np.ndarray | Tensor
# Key under which `TrainingRows` adds a `Draw` to a row
DRAW = "draw"
# Independent sources of randomness of one row or of one epoch
CLIP_DRAWS, PARTNER_DRAWS, ORDER_DRAWS = 1, 2, 3


class Rows(Protocol):
    """A dataset of dictionaries."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row."""


def multi_hot(labels: Labels, num_labels: int) -> Tensor:
    """Labels of one clip as one number per class, float32, shape (C,).

    Args:
        labels: A class; a list or tuple of integers, which are the classes of the clip; or a number for each class: an
            array or a tensor of shape (C,), or a list of C floats.
        num_labels: C.

    Raises:
        ValueError: A class is out of range, or the shape is wrong.
    """
    if isinstance(labels, list | tuple) and not any(isinstance(label, float) for label in labels):
        classes = [int(label) for label in labels]
    elif np.ndim(labels) == 0:
        classes = [int(labels)]  # type: ignore[arg-type]
    else:
        values = torch.as_tensor(labels, dtype=torch.float32)
        if values.shape != (num_labels,):
            raise ValueError(
                f"labels has shape {tuple(values.shape)}, but must hold one number for each of {num_labels} classes; "
                "give the classes of a clip as a list of integers."
            )
        return values
    wrong = [label for label in classes if not 0 <= label < num_labels]
    if wrong:
        raise ValueError(f"labels holds {wrong[0]}, but classes are numbered from 0 to {num_labels - 1}.")
    result = torch.zeros(num_labels)
    result[classes] = 1.0
    return result


def class_balanced_weights(labels: Sequence[Labels], num_labels: int, *, offset: float = 0.01) -> Tensor:
    """Weights of clips for class-balanced sampling (egs/audioset/gen_weight_file.py of AST).

    The weight of a class is 1000 / (number of its clips + offset), and that of a clip the sum over its classes.

    Args:
        labels: For each clip, what `multi_hot` takes.
        num_labels: C.
        offset: 0.01 in AST and SSAST; 100 in PaSST, which draws very rare classes less often.

    Returns:
        Shape (number of clips,), float64.

    Raises:
        ValueError: There are no clips, a label is out of range, or a clip has no label and would never be drawn.
    """
    if len(labels) == 0:
        raise ValueError("labels is empty; give the labels of at least one clip.")
    # One clip at a time: for two million clips of AudioSet, a table of all classes would take 8 GB
    present = [_classes(value, num_labels) for value in labels]
    without = [index for index, classes in enumerate(present) if not len(classes)]
    if without:
        raise ValueError(
            f"labels of {len(without)} clips, such as number {without[0]}, are empty, so these would never be drawn; "
            "leave them out, or give them a class of their own."
        )
    flat = np.concatenate([np.asarray(classes) for classes in present]).astype(int)
    class_weights = 1000.0 / (np.bincount(flat, minlength=num_labels) + offset)
    starts = np.cumsum([0, *map(len, present[:-1])])
    return torch.from_numpy(np.add.reduceat(class_weights[flat], starts))


def _classes(labels: Labels, num_labels: int) -> list[int]:
    """Return the numbers of the classes of one clip, each once, in order."""
    if isinstance(labels, list | tuple) and all(isinstance(label, int) for label in labels):
        found = sorted(set(labels))
        if not found or 0 <= found[0] <= found[-1] < num_labels:
            return found
    classes: list[int] = multi_hot(labels, num_labels).nonzero().flatten().tolist()
    return classes


class EpochDataset(Dataset[dict[str, Any]], TrainerCallback):
    """A training set whose rows depend on the epoch, which it learns as a callback of `Trainer`.

    Args:
        epoch: The value until the first epoch begins.
    """

    def __init__(self, epoch: int = 0):
        # In shared memory, so that worker processes that live longer than an epoch learn the next one
        self._epoch = torch.tensor(epoch).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self._epoch.fill_(epoch)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin the epoch of `Trainer`."""
        # Accelerate calls `set_epoch` as well, but neither in distributed nor in resumed training
        self.set_epoch(math.floor((state.epoch or 0.0) + 1e-6))


class TrainingRows(EpochDataset):
    """The rows of a training set with their augmentation, balanced by weights if there are any.

    Pass it to `Trainer` twice, as dataset and as callback, which tells it the epoch:

        rows = TrainingRows(dataset, Augmentation(...))
        Trainer(..., train_dataset=rows, callbacks=[rows], data_collator=TrainingCollator(...))

    Every row is the dataset's, with a `Draw` as `"draw"`, from which `TrainingCollator` augments it. All draws of a
    row depend only on the seed, the epoch and the number of the row: not on batches, worker processes, the processes
    of distributed training, or interruptions. Evaluation sets are passed to `Trainer` as they are, and are not
    augmented.

    Args:
        dataset: Rows of the training set.
        augmentation: None for no augmentation.
        weights: Weights of the rows, such as `class_balanced_weights`, shape (number of rows,): each epoch draws anew.
            None takes every row once.
        num_rows: Rows of an epoch; as many as the dataset has if None. Only with weights.
        replacement: Whether a row may be drawn several times for an epoch. Without it, at most as many as have a
            weight are drawn.
        seed: Seed of the choice of rows and of the augmentation, at least 0.

    Raises:
        ValueError: Weights of the wrong number, negative or not finite; or `num_rows` without weights.
    """

    def __init__(
        self,
        dataset: Rows,
        augmentation: Augmentation | None = None,
        *,
        weights: Tensor | None = None,
        num_rows: int | None = None,
        replacement: bool = True,
        seed: int = 0,
    ):
        if weights is None:
            if num_rows is not None:
                raise ValueError(f"num_rows={num_rows} needs weights; without them, every row is used once.")
        elif weights.shape != (len(dataset),):
            raise ValueError(f"weights has shape {tuple(weights.shape)}, but the dataset has {len(dataset)} rows.")
        elif not ((weights >= 0) & weights.isfinite()).all() or not weights.any():
            raise ValueError("weights must be finite and not negative, and one of them positive.")
        super().__init__(epoch=-1)
        self.dataset = dataset
        self.augmentation = augmentation or Augmentation()
        self.weights = weights
        self.num_rows = len(dataset) if num_rows is None else num_rows
        self.replacement = replacement
        if weights is not None and not replacement:
            self.num_rows = min(self.num_rows, int((weights > 0).sum()))
        self.seed = seed
        self._drawn: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int | None) -> dict[str, Any]:
        """A row of the epoch; for None, which `EvenOrder` yields, one that is left out of the loss."""
        return self.in_epoch(0 if index is None else index, self.epoch, counts=index is not None)

    def in_epoch(self, index: int, epoch: int, *, counts: bool = True) -> dict[str, Any]:
        """A row of any epoch."""
        draw = Draw(rows=self, epoch=epoch, index=index, counts=counts)
        return self.dataset[self._row(index, epoch)] | {DRAW: draw}

    @property
    def epoch(self) -> int:
        """The epoch that has begun."""
        epoch = int(self._epoch)
        if epoch < 0:
            raise ValueError(
                "TrainingRows does not know the epoch: pass it to Trainer as a callback too, `callbacks=[rows]`, or, "
                "outside of Trainer, call `rows.set_epoch(0)` before the first epoch."
            )
        return epoch

    def _row(self, index: int, epoch: int) -> int:
        """Row of the dataset at this place in the epoch."""
        if self.weights is None:
            return index
        if self._drawn is None or self._drawn[0] != epoch:
            generator = seeded_generator(self.seed, epoch)
            drawn = torch.multinomial(self.weights, self.num_rows, replacement=self.replacement, generator=generator)
            self._drawn = (epoch, drawn)
        return int(self._drawn[1][index])


@dataclass(frozen=True, eq=False)
class Draw:
    """What determines the augmentation of a row.

    Attributes:
        rows: The training rows.
        epoch: Epoch in which the row is drawn.
        index: Its place in the epoch.
        counts: Whether it counts in the loss.
    """

    rows: TrainingRows
    epoch: int
    index: int
    counts: bool = True

    def generator(self, purpose: int = CLIP_DRAWS) -> torch.Generator:
        """Make the source of randomness of this row."""
        return seeded_generator(self.rows.seed, self.epoch, self.index, purpose)

    def partner(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw any row of the same epoch."""
        other = torch.randint(self.rows.num_rows, (), generator=generator)
        return self.rows.in_epoch(int(other), self.epoch)


class EvenOrder(Sampler[int | None]):
    """The order of an epoch, padded to full batches on all processes with rows that do not count.

    Where the last batches of an epoch are not full, or not one for each process, accelerate repeats rows from the
    beginning of the epoch. These then count twice, and training on several processes differs from that on one. Here
    the places are filled with None instead, for which `TrainingRows` gives a row that is left out of the loss.

    Args:
        rows: Their seed and the epoch determine the order.
        num_rows_per_pass: Rows of one forward pass on all processes together; with 1, nothing is padded.
    """

    def __init__(self, rows: TrainingRows, num_rows_per_pass: int):
        self.rows = rows
        self.num_rows_per_pass = num_rows_per_pass

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.num_rows_per_pass) * self.num_rows_per_pass

    def __iter__(self) -> Iterator[int | None]:
        generator = seeded_generator(self.rows.seed, self.rows.epoch, 0, ORDER_DRAWS)
        yield from torch.randperm(len(self.rows), generator=generator).tolist()
        yield from [None] * (len(self) - len(self.rows))


def seeded_generator(*numbers: int) -> torch.Generator:
    """Make a generator on the CPU from several integers, none of them negative."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))
