"""Checks of arguments that several modules take."""

from typing import Any

from torch import Tensor


def expect_tensor(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument if its value is not a tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} is a {type(value).__name__}, but must be a tensor; convert it with `torch.as_tensor({name})`."
        )
