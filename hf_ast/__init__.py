"""Audio spectrogram transformers (AST, SSAST, PaSST) for Hugging Face transformers.

`import hf_ast` registers them with transformers' Auto classes and pipelines. Nothing heavy is imported before it is
used, and the torch-only modules (`hf_ast.models.modules_*`) work without transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .auto import register

if TYPE_CHECKING:  # the names in `_EXPORTS`, for type checkers and editors
    from . import assets as assets, audio as audio
    from .checkpoints import get_checkpoint as get_checkpoint
    from .inference.clips import score_clips as score_clips
    from .inference.corpus import extract as extract
    from .inference.embeddings import (
        scene_embeddings as scene_embeddings,
        timestamp_embeddings as timestamp_embeddings,
    )
    from .inference.events import Event as Event
    from .inference.fast import prepare_fast as prepare_fast
    from .inference.loading import load_classifier as load_classifier, load_encoder as load_encoder
    from .inference.streaming import StreamTagger as StreamTagger
    from .inference.tagging import Tagging as Tagging, tag as tag
    from .models.configuration_ast import HfASTConfig as HfASTConfig
    from .models.configuration_fpasst import FPaSSTConfig as FPaSSTConfig
    from .models.configuration_passt import PaSSTConfig as PaSSTConfig
    from .models.configuration_ssast import SSASTConfig as SSASTConfig
    from .models.feature_extraction_ast import HfASTFeatureExtractor as HfASTFeatureExtractor
    from .models.feature_extraction_fpasst import FPaSSTFeatureExtractor as FPaSSTFeatureExtractor
    from .models.feature_extraction_maest import MAESTFeatureExtractor as MAESTFeatureExtractor
    from .models.feature_extraction_passt import PaSSTFeatureExtractor as PaSSTFeatureExtractor
    from .models.modeling_ast import (
        HfASTForAudioClassification as HfASTForAudioClassification,
        HfASTForAudioFrameClassification as HfASTForAudioFrameClassification,
        HfASTModel as HfASTModel,
    )
    from .models.modeling_fpasst import (
        FPaSSTForAudioClassification as FPaSSTForAudioClassification,
        FPaSSTForAudioFrameClassification as FPaSSTForAudioFrameClassification,
        FPaSSTModel as FPaSSTModel,
    )
    from .models.modeling_passt import (
        PaSSTForAudioClassification as PaSSTForAudioClassification,
        PaSSTForAudioFrameClassification as PaSSTForAudioFrameClassification,
        PaSSTModel as PaSSTModel,
    )
    from .models.modeling_ssast import (
        SSASTForAudioClassification as SSASTForAudioClassification,
        SSASTForAudioFrameClassification as SSASTForAudioFrameClassification,
        SSASTForPreTraining as SSASTForPreTraining,
        SSASTModel as SSASTModel,
    )
    from .models.modules_fbank import KaldiFbank as KaldiFbank
    from .models.modules_fpasst_mel import FPaSSTMel as FPaSSTMel
    from .models.modules_maest_mel import MAESTLogMel as MAESTLogMel
    from .models.modules_passt_mel import PaSSTMel as PaSSTMel
    from .models.modules_pretraining import MaskedPatchPretraining as MaskedPatchPretraining
    from .models.modules_transformer import (
        SpectrogramClassifier as SpectrogramClassifier,
        SpectrogramFrameClassifier as SpectrogramFrameClassifier,
        SpectrogramTransformer as SpectrogramTransformer,
    )

__version__ = "0.2.0"

_EXPORTS = {
    "Event": "inference.events",
    "extract": "inference.corpus",
    "FPaSSTConfig": "models.configuration_fpasst",
    "FPaSSTFeatureExtractor": "models.feature_extraction_fpasst",
    "FPaSSTForAudioClassification": "models.modeling_fpasst",
    "FPaSSTForAudioFrameClassification": "models.modeling_fpasst",
    "FPaSSTMel": "models.modules_fpasst_mel",
    "FPaSSTModel": "models.modeling_fpasst",
    "get_checkpoint": "checkpoints",
    "HfASTConfig": "models.configuration_ast",
    "HfASTFeatureExtractor": "models.feature_extraction_ast",
    "HfASTForAudioClassification": "models.modeling_ast",
    "HfASTForAudioFrameClassification": "models.modeling_ast",
    "HfASTModel": "models.modeling_ast",
    "KaldiFbank": "models.modules_fbank",
    "load_classifier": "inference.loading",
    "load_encoder": "inference.loading",
    "MAESTFeatureExtractor": "models.feature_extraction_maest",
    "MAESTLogMel": "models.modules_maest_mel",
    "MaskedPatchPretraining": "models.modules_pretraining",
    "PaSSTConfig": "models.configuration_passt",
    "PaSSTFeatureExtractor": "models.feature_extraction_passt",
    "PaSSTForAudioClassification": "models.modeling_passt",
    "PaSSTForAudioFrameClassification": "models.modeling_passt",
    "PaSSTMel": "models.modules_passt_mel",
    "PaSSTModel": "models.modeling_passt",
    "prepare_fast": "inference.fast",
    "scene_embeddings": "inference.embeddings",
    "score_clips": "inference.clips",
    "SpectrogramClassifier": "models.modules_transformer",
    "SpectrogramFrameClassifier": "models.modules_transformer",
    "SpectrogramTransformer": "models.modules_transformer",
    "SSASTConfig": "models.configuration_ssast",
    "SSASTForAudioClassification": "models.modeling_ssast",
    "SSASTForAudioFrameClassification": "models.modeling_ssast",
    "SSASTForPreTraining": "models.modeling_ssast",
    "SSASTModel": "models.modeling_ssast",
    "StreamTagger": "inference.streaming",
    "tag": "inference.tagging",
    "Tagging": "inference.tagging",
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
