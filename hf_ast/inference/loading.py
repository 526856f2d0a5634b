"""Models by any of their names, with their feature extractors."""

import os
from typing import Any, cast

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    PreTrainedModel,
)

from hf_ast.checkpoints import resolve_model
from hf_ast.models.configuration_native_common import NATIVE_MODEL_TYPE
from hf_ast.models.configuration_ssast import SSASTConfig
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modeling_ast import HfASTForAudioClassification, HfASTModel
from hf_ast.models.modeling_ssast import SSASTForPreTraining

from .fast import prepare_fast
from .features import FeatureExtractor
from .front_ends import load_feature_extractor, read_model_type


def load_classifier(model: str | os.PathLike[str], *, fast: bool = False) -> tuple[PreTrainedModel, FeatureExtractor]:
    """Load a classification model in eval mode, and its feature extractor.

    Checkpoints of transformers' own AST open as ours, which gives the numbers of the official code.

    Args:
        model: A folder, the id of a model on the Hub, or any name of a released checkpoint (`resolve_model`).
        fast: Whether to prepare the model with `prepare_fast`, which rounds: logits stay within 2 % of their range.

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
    return prepare_fast(classifier) if fast else classifier, feature_extractor


def load_encoder(model: str | os.PathLike[str]) -> tuple[PreTrainedModel, SpectrogramFeatureExtractor]:
    """Load a model for embeddings, in eval mode and with its classifier if it has one, and its feature extractor.

    Args:
        model: As in `load_classifier`; an AST, SSAST or PaSST.

    Raises:
        ValueError: The name is unknown, the model is of another family, or its checkpoint lacks weights.
        OSError: The checkpoint cannot be downloaded or read.
    """
    encoder, feature_extractor, missing = _load(model, HfASTForAudioClassification, AutoModelForAudioClassification)
    if missing:
        encoder, feature_extractor, missing = _load(model, HfASTModel, AutoModel)
    if missing:
        raise ValueError(f"model={os.fspath(model)!r} is incomplete: the checkpoint has no {', '.join(missing)}.")
    if not isinstance(feature_extractor, SpectrogramFeatureExtractor):
        raise ValueError(
            f"model={os.fspath(model)!r} is a {type(encoder).__name__}; embeddings need an AST, SSAST or PaSST."
        )
    return encoder, feature_extractor


def load_pretraining(model: str | os.PathLike[str]) -> tuple[SSASTForPreTraining, SpectrogramFeatureExtractor]:
    """Load an SSAST with its pretraining heads, in eval mode, and its feature extractor.

    Args:
        model: As in `load_classifier`.

    Raises:
        ValueError: The name is unknown, or the checkpoint is not a pretraining checkpoint.
        OSError: The checkpoint cannot be downloaded or read.
    """
    path = resolve_model(model)
    family = read_model_type(path)
    if family != SSASTConfig.model_type:
        raise ValueError(f"model={os.fspath(model)!r} is of the family {family!r}, but must be a pretrained SSAST.")
    network, feature_extractor, missing = _load(path, SSASTForPreTraining, SSASTForPreTraining)
    if missing:
        raise ValueError(
            f"model={os.fspath(model)!r} has no pretraining heads: the checkpoint lacks {', '.join(missing)}. "
            "Use one that `hf-ast pretrain` made, or a released one that was not fine-tuned."
        )
    return cast("SSASTForPreTraining", network), cast("SpectrogramFeatureExtractor", feature_extractor)


def _load(
    model: str | os.PathLike[str], native_class: Any, auto_class: Any
) -> tuple[PreTrainedModel, FeatureExtractor, list[str]]:
    """The model, its feature extractor, and the parameters that its checkpoint does not have."""
    path = resolve_model(model)
    try:
        return _load_from(path, native_class, auto_class)
    except (ImportError, OSError, ValueError):
        raise
    except StrictDataclassError as error:  # which is not a ValueError
        raise ValueError(f"model={os.fspath(model)!r} has wrong settings: {error.__cause__ or error}") from error
    except Exception as error:  # damaged weights and settings may raise anything
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"model={os.fspath(model)!r} cannot be opened: its files are damaged, do not fit together, or would run "
            f"code; nothing of them was run ({type(error).__name__}: {reason:.300})."
        ) from error


def _load_from(path: str, native_class: Any, auto_class: Any) -> tuple[PreTrainedModel, FeatureExtractor, list[str]]:
    # Without it, transformers asks on the terminal whether to run the model's code, and waits
    never: dict[str, Any] = {"trust_remote_code": False}
    model_type = read_model_type(path, **never)
    # Before the weights, which may have to be downloaded
    feature_extractor = load_feature_extractor(path, model_type, **never)
    model_class = native_class if model_type == NATIVE_MODEL_TYPE else auto_class
    loaded, info = model_class.from_pretrained(path, output_loading_info=True, **never)
    return loaded, feature_extractor, sorted(info["missing_keys"])
