"""The official PaSST code, from checkouts of kkoutini/PaSST and kkoutini/passt_hear21, without their dependencies.

What stands in for those is used only during imports (ba3l, timm), or makes the mel filters (torchaudio; ours take
their place): the timed code is the official one.
"""

import contextlib
import importlib
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from hf_ast.models.modules_mel_filters import kaldi_mel_filters


class _Ingredient:
    """Of ba3l: registers commands of a command line."""

    def __init__(self, name: str):
        self.name = name

    def command(self, function: Any) -> Any:
        return function

    def add_config(self, **settings: Any) -> None:
        """Nothing to configure."""


def _mel_banks(
    num_bins: int, n_fft: int, rate: float, low: float, high: float, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    filters = kaldi_mel_filters(num_bins, n_fft, int(rate), low_frequency_hz=low, high_frequency_hz=high)
    return filters[:, :-1], None


def _no_mask(*args: Any, **kwargs: Any) -> nn.Module:
    return nn.Identity()  # masks are for training, which is not timed with them


STAND_INS: dict[str, dict[str, Any]] = {
    "ba3l": {},
    "ba3l.ingredients": {},
    "ba3l.ingredients.ingredient": {"Ingredient": _Ingredient},
    "timm": {},
    "timm.models": {},
    "timm.models._hub": {"download_cached_file": None},
    "torchaudio": {},
    "torchaudio.compliance": {},
    "torchaudio.compliance.kaldi": {"get_mel_banks": _mel_banks},
    "torchaudio.transforms": {"FrequencyMasking": _no_mask, "TimeMasking": _no_mask},
}


def _import(checkout: Path, module: str) -> ModuleType:
    for name, attributes in STAND_INS.items():
        stand_in = sys.modules.setdefault(name, ModuleType(name))
        for attribute, value in attributes.items():
            setattr(stand_in, attribute, value)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, stand_in)
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return importlib.import_module(module)


def build_passt(checkout: Path, package: str, **sizes: Any) -> nn.Module:
    """A random official network; `package` is "models" (PaSST) or "hear21passt.models" (passt_hear21)."""
    with contextlib.redirect_stdout(io.StringIO()):
        network = _import(checkout, f"{package}.passt").PaSST(
            img_size=(128, 998), stride=(10, 10), distilled=True, **sizes
        )
        network(torch.zeros(1, 1, 128, 998))  # the first forward prints
    return network


def build_mel(checkout: Path) -> nn.Module:
    """The official front end, in eval mode, with the settings of training and of the HEAR wrapper."""
    with contextlib.redirect_stdout(io.StringIO()):
        front_end = _import(checkout, "hear21passt.models.preprocess").AugmentMelSTFT
        return front_end(fmin_aug_range=10, fmax_aug_range=2000).eval()


def build_hear(checkout: Path, network: nn.Module) -> nn.Module:
    """The HEAR wrapper of module `base` around a network, in the mode "all"."""
    wrapper = _import(checkout, "hear21passt.wrapper").PasstBasicWrapper
    return wrapper(mel=build_mel(checkout), net=network, mode="all").eval()
