"""Results that grow by a few rows at a time."""

from array import array

import numpy as np
import torch
from torch import Tensor


class Rows:
    """Rows of numbers in one block of memory, which grows.

    A list of small tensors would lie between the large arrays that come and go with every batch, and keep their memory
    from being reused: hours of sound would take ever more of it.

    Args:
        typecode: "f" for float32, "d" for float64.
    """

    def __init__(self, typecode: str):
        self._values = array(typecode)
        self._num_rows = 0

    def __len__(self) -> int:
        return self._num_rows

    def append(self, rows: Tensor | np.ndarray) -> None:
        """Add rows (n, W), or n numbers (n,), of the type of the others and always of the same width."""
        self._values.frombytes(np.asarray(rows).tobytes())
        self._num_rows += len(rows)

    def array(self) -> np.ndarray:
        """Return a copy of all rows, shape (K, W); W is 1 for single numbers, and 0 if there are no rows."""
        return np.array(self._values, dtype=self._values.typecode).reshape(max(1, self._num_rows), -1)[
            : self._num_rows
        ]

    def tensor(self) -> Tensor:
        """Return the same as a tensor."""
        return torch.from_numpy(self.array())
