"""Checks of arguments that several modules take, and the precision of their losses."""

from typing import Any

import torch
from torch import Tensor


def expect_tensor(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument if its value is not a tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} is a {type(value).__name__}, but must be a tensor; convert it with `torch.as_tensor({name})`."
        )


def precise(values: Tensor) -> Tensor:
    """Values in at least float32, in which losses are computed: sums and logarithms overflow in half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
