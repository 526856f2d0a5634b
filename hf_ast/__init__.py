"""Audio spectrogram transformers (AST, SSAST, PaSST) for Hugging Face transformers.

`import hf_ast` makes them known to transformers' Auto classes and pipelines. Nothing heavy is imported before it is
used, and the torch-only modules (`hf_ast.models.modules_*`) work with transformers not installed.
"""

from importlib import import_module
from typing import Any

from .auto import register

__version__ = "0.1.0"

_EXPORTS = {
    "HfASTConfig": "models.configuration_ast",
    "HfASTFeatureExtractor": "models.feature_extraction_ast",
    "HfASTForAudioClassification": "models.modeling_ast",
    "HfASTModel": "models.modeling_ast",
    "KaldiFbank": "models.modules_fbank",
    "PaSSTConfig": "models.configuration_passt",
    "PaSSTFeatureExtractor": "models.feature_extraction_passt",
    "PaSSTForAudioClassification": "models.modeling_passt",
    "PaSSTMel": "models.modules_passt_mel",
    "PaSSTModel": "models.modeling_passt",
    "MaskedPatchPretraining": "models.modules_pretraining",
    "SSASTConfig": "models.configuration_ssast",
    "SSASTForAudioClassification": "models.modeling_ssast",
    "SSASTForPreTraining": "models.modeling_ssast",
    "SSASTModel": "models.modeling_ssast",
    "SpectrogramClassifier": "models.modules_transformer",
    "SpectrogramTransformer": "models.modules_transformer",
    "get_checkpoint": "checkpoints",
    "Event": "inference.events",
    "StreamTagger": "inference.streaming",
    "Tagging": "inference.tagging",
    "extract": "inference.corpus",
    "load_classifier": "inference.loading",
    "load_encoder": "inference.loading",
    "scene_embeddings": "inference.embeddings",
    "score_clips": "inference.clips",
    "tag": "inference.tagging",
    "timestamp_embeddings": "inference.embeddings",
}

_SUBMODULES = ("assets", "audio")

__all__ = ["__version__", *_EXPORTS, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f".{name}", __name__)
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


register()
