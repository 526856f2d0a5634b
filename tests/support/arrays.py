"""Waveforms and spectrograms in every dtype, layout, container and shape, with what is expected of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

FLOATS = ("float16", "float32", "float64", "longdouble", ">f4", "bfloat16")
OTHERS = ("int8", "int16", "int32", "int64", "uint8", "bool", "complex64", "complex128", "object", "str")
LAYOUTS = ("plain", "reversed", "strided", "read-only", "fortran")
CONTAINERS = ("numpy", "torch", "requires_grad", "list", "tuple", "scalars", "tensors")
CONTENTS = ("noise", "zeros", "constant", "tiny", "nan", "inf", "loud", "huge")


def samples(shape: tuple[int, ...], content: str, seed: int) -> np.ndarray:
    """Float64 samples; NaN and infinite values in one place."""
    rng = np.random.default_rng(seed)
    values = np.asarray(0.1 * rng.standard_normal(shape))
    if content == "zeros":
        values[...] = 0
    elif content == "constant":
        values[...] = 0.5
    elif content == "tiny":
        values *= 1e-40
    elif content in ("loud", "huge"):
        values *= {"loud": 2.0**17, "huge": 1e300}[content]
    elif values.size and content in ("nan", "inf"):
        values.flat[rng.integers(values.size)] = {"nan": np.nan, "inf": -np.inf}[content]
    return values


def laid_out(values: np.ndarray, layout: str) -> np.ndarray:
    """The same values with other strides or flags."""
    if not values.ndim:  # whose slices are no arrays
        return values
    if layout == "reversed":
        return values[..., ::-1].copy()[..., ::-1]
    if layout == "strided":
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if layout == "read-only":
        values = values.copy()
        values.flags.writeable = False
    return np.asfortranarray(values) if layout == "fortran" else values


def as_dtype(values: np.ndarray, dtype: str) -> Any:
    """An array of that dtype, or a tensor for bfloat16, which numpy does not have."""
    with np.errstate(all="ignore"):
        if dtype == "bfloat16":
            return torch.from_numpy(values.astype(np.float32)).bfloat16()
        if np.dtype(dtype).kind in "iu":
            return np.asarray(np.nan_to_num(values * 100)).astype(dtype)
        return np.asarray(values.astype(dtype))


def contained(array: Any, container: str) -> Any:
    """The array as a tensor, as a list, or as it is where that is impossible."""
    if isinstance(array, torch.Tensor):
        return array.requires_grad_(container == "requires_grad")
    if container in ("list", "tuple"):
        return array.tolist() if container == "list" else tuple(array.tolist()) if array.ndim else array
    if container == "scalars":
        return list(array) if array.ndim else array
    is_torch = array.dtype.kind in "fiubc" and array.dtype.isnative and array.dtype.itemsize <= 16
    if container == "numpy" or not is_torch or array.dtype == np.longdouble:
        return array
    tensor = torch.from_numpy(np.array(array))  # torch has no negative strides
    if container == "requires_grad" and tensor.is_floating_point():
        tensor.requires_grad_()
    return list(tensor) if container == "tensors" and tensor.ndim else tensor


@dataclass(frozen=True, repr=False)
class Wave:
    """A generated waveform or batch: what is passed, and the float32 clips that it stands for, if it is float."""

    value: Any
    clips: list[np.ndarray] | None
    description: str

    def __repr__(self) -> str:
        return self.description

    @property
    def is_finite(self) -> bool:
        return self.clips is not None and all(np.isfinite(clip).all() for clip in self.clips)

    @property
    def peak(self) -> float:
        return max((float(np.abs(clip).max(initial=0)) for clip in self.clips or ()), default=0.0)


@st.composite
def waves(draw: Any, shapes: st.SearchStrategy[tuple[int, ...]], dtypes: tuple[str, ...] = FLOATS + OTHERS) -> Wave:
    """Arrays of any kind; the clips are the rows of two axes, or the one row of one axis."""
    # Right ones as often as all the wrong ones together
    dtype = draw(st.one_of(st.sampled_from([name for name in dtypes if name in FLOATS]), st.sampled_from(dtypes)))
    content = draw(st.one_of(st.just("noise"), st.sampled_from(CONTENTS)))
    shape, layout = draw(shapes), draw(st.sampled_from(LAYOUTS))
    # As a list, objects would be the floats that they are
    container = "numpy" if dtype == "object" else draw(st.sampled_from(CONTAINERS))
    seed = draw(st.integers(0, 9))
    values = laid_out(samples(shape, content, seed), layout)
    array = as_dtype(values, dtype)
    if isinstance(array, np.ndarray) and dtype != "object":
        array = laid_out(array, layout)
    clips = None
    if dtype in FLOATS and array.ndim in (1, 2):
        with np.errstate(all="ignore"):
            flat = array.float().numpy() if isinstance(array, torch.Tensor) else np.array(array, np.float32)
        clips = list(flat) if flat.ndim == 2 else [flat]
    description = f"{dtype} {shape} {layout} {container} {content} seed {seed}"
    return Wave(contained(array, container), clips, description)
