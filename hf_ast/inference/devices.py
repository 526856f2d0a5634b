"""Where models run, in which precision, and how many inputs at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_ast.choices import DType, expect_one_of

from .evaluating import evaluating

Device = str | torch.device
# An accelerator is idle with the batches that suit the cache of a CPU; its memory holds more of them
ACCELERATOR_FACTOR = 4


def find_device(device: Device | None = None) -> torch.device:
    """Return the device with a name; without one the accelerator if there is one, else the CPU.

    Args:
        device: "cpu", or the accelerator of this machine ("cuda", "mps", "xpu", ...), with or without its number.

    Raises:
        ValueError: There is no such device, or it cannot compute.
    """
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return torch.device("cpu") if there is None else there
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={str(device)!r} is not the name of a device; {_choices(there)}.") from error
    if found.type == "cpu":
        return torch.device("cpu")
    if there is None or found.type != there.type:
        problem = "holds no values" if found.type == "meta" else f"this machine has no {_shown(found.type)} device"
        raise ValueError(f"device={str(device)!r}: {problem}; {_choices(there)}.")
    if (found.index or 0) >= torch.accelerator.device_count():
        num_devices = torch.accelerator.device_count()
        raise ValueError(
            f"device={str(device)!r}: this machine has {num_devices} {_shown(found.type)} device"
            f"{'s' if num_devices > 1 else ''}, counted from 0; {_choices(there)}."
        )
    return found


def find_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return the floating-point type of a name, or raise a ValueError."""
    name = str(dtype).removeprefix("torch.")
    expect_one_of(DType, dtype=name)
    found: torch.dtype = getattr(torch, name)
    return found


def default_batch_size(device: torch.device, on_cpu: int) -> int:
    """Return the number of inputs of a forward pass, if the user gives none: larger on an accelerator."""
    return on_cpu if device.type == "cpu" else ACCELERATOR_FACTOR * on_cpu


def place(model: PreTrainedModel, device: Device | None = None) -> None:
    """Move a model to a device, where it stays; None leaves it where it is."""
    if device is not None:
        nn.Module.to(model, find_device(device))


@contextmanager
def running(model: PreTrainedModel, dtype: str | torch.dtype | None = None) -> Iterator[None]:
    """Run a model in eval mode, in a precision, for the duration of a block.

    Args:
        model: On any device.
        dtype: "float32", "bfloat16" or "float16", or None for that of the weights. Where it is smaller than that of
            the weights, the weights stay as they are, and the products are computed in it (autocast).

    Raises:
        ValueError: The type is unknown, or the weights are less precise than it.
    """
    computed, stored = None if dtype is None else find_dtype(dtype), model.dtype
    if computed in (None, stored):
        with evaluating(model):
            yield
        return
    if stored not in (torch.float32, torch.float64):
        raise ValueError(
            f"dtype={str(dtype).removeprefix('torch.')!r}, but the model holds {str(stored).removeprefix('torch.')}; "
            "load it with that dtype."
        )
    with evaluating(model), torch.autocast(model.device.type, computed, enabled=computed != torch.float32):
        yield


def _choices(there: Any) -> str:
    """Say which devices there are."""
    if there is None:
        return "torch finds no accelerator here, so leave it out, or choose 'cpu'"
    return f"choose {there.type!r} or 'cpu', or leave it out"


def _shown(device_type: str) -> str:
    return device_type.upper()
