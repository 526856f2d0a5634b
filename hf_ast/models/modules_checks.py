"""Checks of what all modules take."""

from typing import Any

from torch import Tensor


def expect_tensor(name: str, value: Any) -> None:
    """Raise a ValueError if an argument of that name is no tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} is a {type(value).__name__}, but must be a tensor; convert it with `torch.as_tensor({name})`."
        )
