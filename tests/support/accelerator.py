"""An accelerator that every machine has: values on the CPU, in tensors that say that they are elsewhere.

It enforces what a real device enforces: tensors of two devices do not meet in one operation, values reach the host
only by a copy, and there is no float64, as on Apple's devices. It computes the numbers of the CPU, and counts what is
copied in each direction.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# The one kind that builds of torch for CPUs let pass, because it has no runtime to ask
DEVICE = torch.device("lazy:0")
aten = torch.ops.aten
# Between devices, as on real ones: copies, and numbers of rows that come from the host
COPIES = (aten._to_copy, aten.to, aten.copy_)
INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


class OnAccelerator(torch.Tensor):
    """A tensor on the device; `values` holds its numbers."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "OnAccelerator":
        with torch.inference_mode(False):  # views of tensors from before that mode count their changes
            return torch.Tensor._make_wrapper_subclass(
                cls,
                values.shape,
                strides=values.stride(),
                storage_offset=values.storage_offset(),
                dtype=values.dtype,
                device=DEVICE,
            )

    def __init__(self, values: Tensor):
        if values.dtype == torch.float64:
            raise TypeError("The device has no float64.")
        self.values = values

    def tolist(self) -> Any:
        """The numbers, by a copy to the host."""
        return self.to("cpu").tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy; use Tensor.cpu() first.")

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} reached the device after the test")


@dataclass
class Accelerator:
    """What was seen.

    Attributes:
        to_device, to_host: Number of values in each copy, in order.
        modules: How often a module of each class was called with tensors on the device.
        on_cpu: Classes of modules that were called with tensors on the CPU.
    """

    to_device: list[int] = field(default_factory=list)
    to_host: list[int] = field(default_factory=list)
    modules: Counter[str] = field(default_factory=Counter)
    on_cpu: set[str] = field(default_factory=set)


class _Mode(TorchDispatchMode):
    def __init__(self, seen: Accelerator):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_there = any(isinstance(leaf, OnAccelerator) for leaf in leaves)
        targets = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
        goes_there = targets[0].type == DEVICE.type if targets else is_there
        if func.overloadpacket in COPIES:
            self._count(func, args, leaves, goes_there)
        elif is_there and func not in INDEXING:
            strangers = [leaf for leaf in leaves if not isinstance(leaf, OnAccelerator) and leaf.ndim > 0]
            if strangers:
                shapes = [tuple(stranger.shape) for stranger in strangers]
                raise RuntimeError(f"Expected all tensors to be on the same device: {func} with {shapes} on the CPU.")
        wrappers = {id(leaf.values): leaf for leaf in leaves if isinstance(leaf, OnAccelerator)}
        args, kwargs = tree_map(_values, (args, kwargs))
        result = func(*args, **kwargs)
        if func is aten.copy_.default:
            goes_there = id(result) in wrappers
        return tree_map(lambda value: _wrapped(value, wrappers), result) if goes_there else result

    def _count(self, func: Any, args: Any, leaves: list[Tensor], goes_there: bool) -> None:
        source = leaves[-1]
        if func is aten.copy_.default:
            goes_there = isinstance(args[0], OnAccelerator)
        if goes_there != isinstance(source, OnAccelerator):
            (self.seen.to_device if goes_there else self.seen.to_host).append(source.numel())


def _values(leaf: Any) -> Any:
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.values if isinstance(leaf, OnAccelerator) else leaf


def _wrapped(value: Any, wrappers: dict[int, OnAccelerator]) -> Any:
    if not isinstance(value, Tensor):
        return value
    return wrappers[id(value)] if id(value) in wrappers else OnAccelerator(value)


@contextmanager
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """A machine with such a device, for the duration of a block."""
    seen = Accelerator()
    autocast, kind = torch.autocast, torch.device(DEVICE.type)
    with monkeypatch.context() as patch:
        patch.setattr(torch.accelerator, "is_available", lambda: True)
        patch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: kind)
        patch.setattr(torch.accelerator, "device_count", lambda: 1)
        # It does not know this kind
        patch.setattr(torch, "autocast", lambda device_type, *args, **kwargs: autocast("cpu", *args, **kwargs))

        def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            tensors = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
            tensors = [tensor for tensor in tensors if tensor.is_floating_point()]
            if not tensors:
                return
            name = type(module).__name__
            if all(isinstance(tensor, OnAccelerator) for tensor in tensors):
                seen.modules[name] += 1
            else:
                seen.on_cpu.add(name)

        overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # parameters get another type
        hook = nn.modules.module.register_module_forward_pre_hook(note)
        try:
            with _Mode(seen):
                yield seen
        finally:
            hook.remove()
            torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
