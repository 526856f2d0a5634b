"""Tiny models for tests, with weights large enough that mistakes show."""

from typing import Any

import torch

from hf_ast import (
    FPaSSTConfig,
    FPaSSTForAudioClassification,
    FPaSSTForAudioFrameClassification,
    HfASTConfig,
    HfASTForAudioClassification,
    HfASTForAudioFrameClassification,
    PaSSTConfig,
    PaSSTFeatureExtractor,
    PaSSTForAudioClassification,
    SSASTConfig,
    SSASTForPreTraining,
)

GEOMETRY = {"patch_size": (8, 6), "frequency_stride": 6, "time_stride": 4, "max_length": 50, "num_mel_bins": 32}
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def tiny_config(**changes: Any) -> HfASTConfig:
    return HfASTConfig(**SIZE | GEOMETRY | {"num_labels": 5} | changes)


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Fill every parameter with values of a trained model's size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tiny_model(seed: int = 0, **changes: Any) -> HfASTForAudioClassification:
    return randomize(HfASTForAudioClassification(tiny_config(**changes)), seed)


def spectrograms(batch_size: int, num_frames: int, num_mel_bins: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch_size, num_frames, num_mel_bins, generator=torch.Generator().manual_seed(seed))


def waveforms(batch_size: int, num_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(batch_size, num_samples, generator=torch.Generator().manual_seed(seed))


def tiny_passt(seed: int = 0, **changes: Any) -> PaSSTForAudioClassification:
    """A grid of 5 rows and 12 columns."""
    config = PaSSTConfig(**SIZE | GEOMETRY | {"num_labels": 5} | changes)
    return randomize(PaSSTForAudioClassification(config), seed)


def tiny_frames(seed: int = 0, **changes: Any) -> HfASTForAudioFrameClassification:
    """Cells of the 12 columns of `tiny_model`."""
    return randomize(HfASTForAudioFrameClassification(tiny_config(**changes)), seed)


def tiny_fpasst_config(**changes: Any) -> FPaSSTConfig:
    """13 tokens in 52 frames, which become 10 cells."""
    geometry = {"patch_size": (32, 4), "frequency_stride": 32, "num_mel_bins": 32, "max_length": 52, "num_cells": 10}
    return FPaSSTConfig(**SIZE | geometry | {"num_labels": 5} | changes)


def tiny_fpasst(seed: int = 0, **changes: Any) -> FPaSSTForAudioClassification:
    return randomize(FPaSSTForAudioClassification(tiny_fpasst_config(**changes)), seed)


def tiny_fpasst_frames(seed: int = 0, **changes: Any) -> FPaSSTForAudioFrameClassification:
    return randomize(FPaSSTForAudioFrameClassification(tiny_fpasst_config(**changes)), seed)


def tiny_ssast_config(**changes: Any) -> SSASTConfig:
    """A grid of 4 rows and 8 columns."""
    geometry = {"patch_size": (8, 6), "max_length": 50, "num_mel_bins": 32}
    return SSASTConfig(**SIZE | geometry | {"num_mask_patches": 20} | changes)


def tiny_ssast(seed: int = 0, **changes: Any) -> SSASTForPreTraining:
    return randomize(SSASTForPreTraining(tiny_ssast_config(**changes)), seed)


def passt_extractor() -> PaSSTFeatureExtractor:
    return PaSSTFeatureExtractor(num_mel_bins=32, max_length=50)
