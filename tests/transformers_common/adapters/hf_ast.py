"""The families of hf_ast, for the common tests of transformers."""

import sys
from pathlib import Path

import torch
from hf_suite import Family, FeatureExtractorSpec

# The harness puts this folder first on the path, where this file hides the package of the same name
sys.path.remove(str(Path(__file__).parent))
import hf_ast  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

MELS, FRAMES, PATCH, STRIDE = 16, 24, 4, 2
NUM_MASKS = 10


# A tiny model of any family
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "patch_size": PATCH,
    "frequency_stride": STRIDE,
    "time_stride": STRIDE,
    "max_length": FRAMES,
    "num_mel_bins": MELS,
}
# Pretraining needs patches that do not overlap, the default
SSAST_TINY = {k: v for k, v in TINY.items() if not k.endswith("_stride")} | {"num_mask_patches": NUM_MASKS}
# The stem of fPaSST divides mel bins and frames by 4
FPASST_TINY = {k: v for k, v in TINY.items() if not k.endswith("stride") and k != "patch_size"} | {
    "patch_size": [MELS, 4],
    "frequency_stride": MELS,
    "num_cells": 6,
}


def spectrogram(config, batch_size):
    return {"input_values": torch.rand(batch_size, config.max_length, config.num_mel_bins)}


def num_tokens(config):
    rows, columns = config.grid
    return rows * columns + 2


def with_cell_labels(inputs, model_class, return_labels):
    """The labels of frame models are per cell and class: those that the common tests make are of another shape."""
    if return_labels and model_class.__name__.endswith("ForAudioFrameClassification"):
        config = model_class.config_class(**CONFIGS[model_class.config_class])
        num_cells = config.num_cells_of(config.max_length)
        inputs["labels"] = torch.zeros(len(inputs["input_values"]), num_cells, config.num_labels)
        inputs["clip_labels"] = inputs["labels"][:, 0]  # so that the head for clips has gradients, too
    return inputs


def with_fixed_mask(inputs, model_class, return_labels):
    """The same patches hidden in every forward pass: the tests compare passes."""
    with_cell_labels(inputs, model_class, return_labels)
    if model_class is hf_ast.SSASTForPreTraining:
        inputs["mask_indices"] = torch.arange(NUM_MASKS).expand(len(inputs["input_values"]), -1)
    return inputs


CONFIGS = {
    hf_ast.HfASTConfig: TINY,
    hf_ast.SSASTConfig: SSAST_TINY,
    hf_ast.PaSSTConfig: TINY,
    hf_ast.FPaSSTConfig: FPASST_TINY,
}
FAMILIES = [
    Family(
        name="hf_ast",
        config_class=hf_ast.HfASTConfig,
        models={
            "base": hf_ast.HfASTModel,
            "audio-classification": hf_ast.HfASTForAudioClassification,
            "audio-frame-classification": hf_ast.HfASTForAudioFrameClassification,
        },
        config=lambda: hf_ast.HfASTConfig(**TINY),
        inputs=spectrogram,
        prepare_for_class=with_cell_labels,
        seq_length=lambda config: config.max_length,  # the mask is per frame, the hidden states per token
        encoder_seq_length=num_tokens,
        config_kwargs={"hidden_size": 36, "patch_size": [4, 2], "pooling": "mean"},
        feature_extractor=FeatureExtractorSpec(
            cls=hf_ast.HfASTFeatureExtractor,
            # the common `pad` tests only hold for a padding value of 0
            kwargs={"num_mel_bins": MELS, "padding_value": 0.0, "sampling_rate": 8000, "return_attention_mask": True},
            feature_size=MELS,
            pipeline_kwargs={"num_mel_bins": MELS, "max_length": FRAMES},
        ),
        skip={
            "test_reverse_loading_mapping": "models are saved in our own layout, also those loaded from the native one",
        },
    ),
    Family(
        name="ssast",
        config_class=hf_ast.SSASTConfig,
        models={
            "base": hf_ast.SSASTModel,
            "pretraining": hf_ast.SSASTForPreTraining,
            "audio-classification": hf_ast.SSASTForAudioClassification,
            "audio-frame-classification": hf_ast.SSASTForAudioFrameClassification,
        },
        config=lambda: hf_ast.SSASTConfig(**SSAST_TINY),
        inputs=spectrogram,
        prepare_for_class=with_fixed_mask,
        seq_length=lambda config: config.max_length,
        encoder_seq_length=num_tokens,
        config_kwargs={"hidden_size": 36, "patch_size": [4, 2], "mask_sampler": "uniform", "num_mask_patches": 7},
        feature_extractor=FeatureExtractorSpec(
            cls=hf_ast.HfASTFeatureExtractor,
            kwargs={"num_mel_bins": MELS, "padding_value": 0.0, "sampling_rate": 8000, "return_attention_mask": True},
            feature_size=MELS,
            pipeline_kwargs={"num_mel_bins": MELS, "max_length": FRAMES},
        ),
        skip={
            "test_reverse_loading_mapping": "models are saved in our own layout, also those loaded from ports to AST's",
        },
    ),
    Family(
        name="passt",
        config_class=hf_ast.PaSSTConfig,
        models={
            "base": hf_ast.PaSSTModel,
            "audio-classification": hf_ast.PaSSTForAudioClassification,
            "audio-frame-classification": hf_ast.PaSSTForAudioFrameClassification,
        },
        config=lambda: hf_ast.PaSSTConfig(**TINY),
        inputs=spectrogram,
        prepare_for_class=with_cell_labels,
        seq_length=lambda config: config.max_length,
        encoder_seq_length=num_tokens,
        config_kwargs={"hidden_size": 36, "time_patchout": 3, "position_crop": "random"},
        feature_extractor=FeatureExtractorSpec(
            cls=hf_ast.PaSSTFeatureExtractor,
            kwargs={
                "num_mel_bins": MELS,
                "padding_value": 0.0,
                "sampling_rate": 8000,
                "high_frequency_hz": 3500.0,
                "return_attention_mask": True,
            },
            feature_size=MELS,
            pipeline_kwargs={"num_mel_bins": MELS, "max_length": FRAMES},
        ),
    ),
    Family(
        name="fpasst",
        config_class=hf_ast.FPaSSTConfig,
        models={
            "base": hf_ast.FPaSSTModel,
            "audio-classification": hf_ast.FPaSSTForAudioClassification,
            "audio-frame-classification": hf_ast.FPaSSTForAudioFrameClassification,
        },
        config=lambda: hf_ast.FPaSSTConfig(**FPASST_TINY),
        inputs=spectrogram,
        prepare_for_class=with_cell_labels,
        seq_length=lambda config: config.max_length,
        encoder_seq_length=num_tokens,
        config_kwargs={"hidden_size": 36, "position_crop": "random", "num_cells": None},
        feature_extractor=FeatureExtractorSpec(
            cls=hf_ast.FPaSSTFeatureExtractor,
            kwargs={
                "num_mel_bins": MELS,
                "padding_value": 0.0,
                "sampling_rate": 8000,
                "high_frequency_hz": 3500.0,
                "return_attention_mask": True,
            },
            feature_size=MELS,
            pipeline_kwargs={"num_mel_bins": MELS, "max_length": FRAMES},
        ),
    ),
]
