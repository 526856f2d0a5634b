"""Recordings that turn out to be damaged while training reads them: each costs its own row, and is named."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import get_worker_info
from transformers import TrainerCallback
from transformers.utils import logging

from hf_ast.data.labelled import Clip

from .sampling import EpochDataset

logger = logging.get_logger(__name__)

# Largest fraction of damaged recordings that is tolerated
MAX_DAMAGED = 0.1


class ToleratingDataset(EpochDataset):
    """A training set in which a damaged recording is replaced by the next one, and listed in `damaged`.

    Args:
        recordings: The recordings.
    """

    def __init__(self, recordings: Sequence[Clip]):
        super().__init__()
        self.recordings = list(recordings)
        # In shared memory, so that this process learns what the workers of a data loader find
        self.is_damaged = torch.zeros(len(self.recordings), dtype=torch.bool).share_memory_()

    def candidates(self, number: int, first: int, end: int) -> Iterator[int]:
        """Yield the numbers of a recording, and of those that may replace it: the next ones from `first` to `end` - 1.

        Those that are known to be damaged are left out.
        """
        for candidate in (*range(number, end), *range(first, number)):
            if not self.is_damaged[candidate]:
                yield candidate

    def mark_damaged(self, number: int, error: Exception) -> None:
        """Remember that a recording is damaged, and say so once."""
        self.is_damaged[number] = True
        logger.warning(f"A recording is left out, {self.recordings[number].title!r}: {error}")

    @property
    def damaged(self) -> list[str]:
        """Recordings, among those used so far, that could not be read or hold values that are not finite."""
        return [self.recordings[number].title for number in self.is_damaged.nonzero().flatten().tolist()]

    def expect_few_damaged(self) -> None:
        """Raise a ValueError if more than a tenth of the recordings are damaged."""
        damaged = self.damaged
        if len(damaged) > MAX_DAMAGED * len(self.recordings):
            raise ValueError(
                f"{len(damaged)} of {len(self.recordings)} recordings are damaged, such as {damaged[:3]}; repair or "
                "remove them."
            )


class DamagedRecordings(TrainerCallback):
    """Stops training if more than a tenth of the recordings are damaged; names the damaged ones at the end."""

    def __init__(self, *datasets: ToleratingDataset):
        self.datasets = datasets

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Check after every step."""
        for dataset in self.datasets:
            dataset.expect_few_damaged()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Check once more, and name the damaged recordings."""
        self.on_step_end()
        damaged = self.names()
        if damaged:
            logger.warning(f"{len(damaged)} damaged recordings were left out: {', '.join(damaged)}")

    def names(self) -> list[str]:
        """Names of the damaged recordings, each once."""
        return list(dict.fromkeys(_names(self.datasets)))


def _names(datasets: Iterable[ToleratingDataset]) -> Iterator[str]:
    for dataset in datasets:
        yield from dataset.damaged


def outlive_signals() -> None:
    """In a process that reads audio, ignore SIGTERM, which may be sent to all: the run asks for a last step."""
    if get_worker_info() is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
