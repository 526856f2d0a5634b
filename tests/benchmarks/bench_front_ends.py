"""Front ends against transformers' extractor, torchaudio's Kaldi filter bank and PaSST's official one; see `bench`."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import ASTFeatureExtractor

from hf_ast import HfASTFeatureExtractor
from hf_ast.models.modules_fbank import kaldi_fbank
from hf_ast.models.modules_passt_mel import PaSSTLogMel
from tests.benchmarks.interleave import compared

RATE, PASST_RATE = 16000, 32000


def noise(num_clips: int, rate: int, duration_s: float = 10.0) -> list[np.ndarray]:
    """Clips, each of shape (S,)."""
    generator = np.random.default_rng(0)
    return [(0.1 * generator.standard_normal(round(duration_s * rate))).astype(np.float32) for _ in range(num_clips)]


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """10 s clips; numpy in and out for the extractors."""
    torchaudio_fbank = None if options.torchaudio is None else load_torchaudio(options.torchaudio)
    for num_clips in (1, 32):
        clips = noise(num_clips, RATE)
        repetitions = max(2, options.repetitions * (4 if num_clips == 1 else 1))
        sides = {
            name: (lambda extractor=extractor, clips=clips: extractor(clips, sampling_rate=RATE, return_tensors="np"))
            for name, extractor in {"ours": HfASTFeatureExtractor(), "transformers": ASTFeatureExtractor()}.items()
        }
        yield compared(f"extractor, {num_clips} clip(s) of 10 s", sides, repetitions, 15.0)
        if torchaudio_fbank is not None:
            batch = torch.from_numpy(np.stack(clips))
            check_close(kaldi_fbank(batch[:1]), torchaudio_fbank(batch[:1]))
            sides = {"ours": lambda batch=batch: kaldi_fbank(batch), "torchaudio": lambda b=batch: torchaudio_fbank(b)}
            yield compared(f"Kaldi filter bank, {num_clips} clip(s) of 10 s", sides, repetitions, 1.5)
    if options.hear is not None:
        from tests.benchmarks.official_passt import build_mel

        official, ours = build_mel(options.hear), PaSSTLogMel()
        for num_clips in (1, 8):
            batch = torch.from_numpy(np.stack(noise(num_clips, PASST_RATE)))
            sides = {"ours": lambda batch=batch: ours(batch), "official": lambda batch=batch: official(batch)}
            repetitions = options.repetitions * 3
            yield compared(f"PaSST front end, {num_clips} clip(s) of 10 s", sides, repetitions, 2.5)


def load_torchaudio(folder: Path) -> Callable[[Tensor], Tensor]:
    """torchaudio's `kaldi.fbank` over a batch, with the settings of AST; its C++ parts are not needed for that."""
    extension = ModuleType("torchaudio._extension")
    # Flags and decorators
    extension.__getattr__ = lambda name: False if name.startswith("_IS_") else lambda function: function
    sys.modules["torchaudio._extension"] = extension
    sys.path.insert(0, str(folder))
    from torchaudio.compliance.kaldi import fbank

    settings = {"htk_compat": True, "window_type": "hanning", "num_mel_bins": 128, "dither": 0.0, "frame_shift": 10}
    return lambda batch: torch.stack([fbank(clip[None], sample_frequency=RATE, **settings) for clip in batch])


def check_close(ours: Tensor, theirs: Tensor) -> None:
    """Both must compute the same energies: float32 rounding of an FFT is relative to the energy of the frame.

    torchaudio computes its filters in float32, which makes 1.2e-5 of the difference.
    """
    ours, theirs = ours.double().exp(), theirs.double().exp()
    assert ((ours - theirs).abs().amax(-1) / theirs.amax(-1)).max() < 3e-5
