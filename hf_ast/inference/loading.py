"""Models by any name that people have for them, with their feature extractor."""

import os
from typing import Any

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    PreTrainedModel,
    SequenceFeatureExtractor,
)

from hf_ast.checkpoints import resolve_model
from hf_ast.models.configuration_ast import NATIVE_MODEL_TYPE
from hf_ast.models.feature_extraction_ast import HfASTFeatureExtractor
from hf_ast.models.modeling_ast import HfASTForAudioClassification, HfASTModel


def load_classifier(model: str | os.PathLike[str]) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Load a classification model in eval mode, and its feature extractor.

    Checkpoints of transformers' own AST open as ours, which gives the numbers of the official code.

    Args:
        model: A folder, the id of a model on the Hub, or any name of a released checkpoint (`resolve_model`).

    Raises:
        ValueError: The name is none of these, or the checkpoint has no trained classification head.
        OSError: The checkpoint cannot be downloaded or read.
    """
    classifier, feature_extractor, missing = _load(model, HfASTForAudioClassification, AutoModelForAudioClassification)
    if missing:
        raise ValueError(
            f"model={os.fspath(model)!r} is not a trained classifier: the checkpoint has no {', '.join(missing)}. "
            "With new, random weights every label would be wrong; fine-tune the model first, or take its embeddings."
        )
    return classifier, feature_extractor


def load_encoder(model: str | os.PathLike[str]) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Load a model for embeddings in eval mode, and its feature extractor: with its classifier, if it has one.

    Args and errors are those of `load_classifier`, except that no head is needed.
    """
    classifier, feature_extractor, missing = _load(model, HfASTForAudioClassification, AutoModelForAudioClassification)
    if not missing:
        return classifier, feature_extractor
    encoder, feature_extractor, missing = _load(model, HfASTModel, AutoModel)
    if missing:
        raise ValueError(f"model={os.fspath(model)!r} is incomplete: the checkpoint has no {', '.join(missing)}.")
    return encoder, feature_extractor


def _load(
    model: str | os.PathLike[str], native_class: Any, auto_class: Any
) -> tuple[PreTrainedModel, SequenceFeatureExtractor, list[str]]:
    """The model, its feature extractor, and the parameters that its checkpoint does not have."""
    path = resolve_model(model)
    is_native = AutoConfig.from_pretrained(path).model_type == NATIVE_MODEL_TYPE
    model_class, extractor_class = (
        (native_class, HfASTFeatureExtractor) if is_native else (auto_class, AutoFeatureExtractor)
    )
    loaded, info = model_class.from_pretrained(path, output_loading_info=True)
    return loaded, extractor_class.from_pretrained(path), sorted(info["missing_keys"])
