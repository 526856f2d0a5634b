"""Models by any of their names, with their feature extractors."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    PreTrainedModel,
)

from hf_ast.checkpoints import resolve_model
from hf_ast.models.configuration_ast import NATIVE_MODEL_TYPE
from hf_ast.models.configuration_ssast import SSASTConfig
from hf_ast.models.feature_extraction_ast import HfASTFeatureExtractor
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modeling_ast import HfASTForAudioClassification, HfASTModel
from hf_ast.models.modeling_ssast import SSASTForPreTraining

from .fast import prepare_fast
from .features import FeatureExtractor

# Modules that only some classes of a family have
HEADS = ("classifier.", "objectives.")


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
    family = AutoConfig.from_pretrained(path).model_type
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
    is_native = AutoConfig.from_pretrained(path, **never).model_type == NATIVE_MODEL_TYPE
    model_class, extractor_class = (
        (native_class, HfASTFeatureExtractor) if is_native else (auto_class, AutoFeatureExtractor)
    )
    loaded, info = model_class.from_pretrained(path, output_loading_info=True, **never)
    extractor = extractor_class.from_pretrained(path, **never)
    if isinstance(extractor, SpectrogramFeatureExtractor):
        extractor.min_length = loaded.config.min_frames  # which files from before this field do not tell
    return loaded, extractor, missing_parameters(info)


def missing_parameters(info: Mapping[str, Any], *, optional: str = "\0") -> list[str]:
    """List the parameters that a checkpoint lacks, or has in another shape, which is named.

    Args:
        info: What `from_pretrained(..., output_loading_info=True)` says.
        optional: Beginning of the names that may be missing, such as those of a new classifier.
    """
    mismatched = {name: tuple(wanted) for name, _, wanted in info["mismatched_keys"]}
    names = sorted({*info["missing_keys"], *mismatched})
    return [
        f"{name} of shape {mismatched[name]}" if name in mismatched else name
        for name in names
        if not name.startswith(optional)
    ]


def expect_complete(model: str | os.PathLike[str], info: Mapping[str, Any], *, optional: str = "\0") -> None:
    """Raise a ValueError if parameters of a model would be random, or layers of its checkpoint be left out.

    Args:
        model: What the caller gave, for the message.
        info, optional: As in `missing_parameters`.
    """
    if missing := missing_parameters(info, optional=optional):
        raise ValueError(
            f"model={os.fspath(model)!r} is incomplete: the checkpoint has no {_some(missing)}, as its config.json "
            "describes. They would be random; get the whole checkpoint, or correct the config."
        )
    # A head for another task is left out on purpose
    if left := sorted(name for name in info["unexpected_keys"] if not name.startswith(HEADS)):
        raise ValueError(
            f"model={os.fspath(model)!r} has {_some(left)}, for which its config.json has no place; correct that."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
