"""Models by any of their names, with their feature extractors."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    PreTrainedModel,
)

from hf_ast.checkpoints import resolve_model
from hf_ast.models.configuration_native_common import NATIVE_MODEL_TYPE
from hf_ast.models.configuration_ssast import SSASTConfig
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modeling_ast import HfASTForAudioClassification, HfASTModel
from hf_ast.models.modeling_ssast import SSASTForPreTraining
from hf_ast.opening import hub_settings, open_safely

from .devices import Device, find_device, find_dtype
from .fast import prepare_fast
from .features import FeatureExtractor
from .front_ends import labels_frames, load_feature_extractor, read_model_type

# Modules that only some classes of a family have
HEADS = ("classifier.", "objectives.")


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """How a model is loaded; see `load_classifier`."""

    device: Device | None
    dtype: str | torch.dtype
    revision: str | None
    token: str | bool | None
    frames: bool = False

    def of_hub(self) -> dict[str, Any]:
        """Those that say where the files are."""
        return hub_settings(self.revision, self.token)


def load_classifier(
    model: str | os.PathLike[str],
    *,
    fast: bool = False,
    frames: bool = False,
    device: Device | None = "cpu",
    dtype: str | torch.dtype = "float32",
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[PreTrainedModel, FeatureExtractor]:
    """Load a classification model in eval mode, and its feature extractor.

    Checkpoints of transformers' own AST open as ours, which gives the numbers of the official code.

    Args:
        model: A folder, the id of a model on the Hub, or any name of a released checkpoint (`resolve_model`).
        frames: Whether a model that labels cells of time is opened as such (`...ForAudioFrameClassification`), and not
            by its head for clips.
        fast: Whether to prepare the model with `prepare_fast`, which rounds: logits stay within 2 % of their range.
        device: Where the model runs, such as "cuda"; if None, the accelerator if there is one, else the CPU. By
            default the CPU, as in `from_pretrained`. What takes a model in `hf_ast` runs its front end there as well.
        dtype: "float32", "bfloat16" or "float16": the type of the weights and of what the model computes. Front ends,
            scores and losses stay in float32.
        revision: Branch, tag or commit of a model on the Hub.
        token: Access token of the Hub, for private and gated models; the one that huggingface_hub finds if None.

    Raises:
        ValueError: The name is none of these, the checkpoint has no trained classification head, or there is no such
            device, dtype or revision.
        OSError: The checkpoint cannot be downloaded or read.
    """
    settings = _Settings(device=device, dtype=dtype, revision=revision, token=token, frames=frames)
    classifier, feature_extractor, missing = _load(
        model, HfASTForAudioClassification, AutoModelForAudioClassification, settings
    )
    if missing:
        advice = "fine-tune the model first, or take its embeddings."
        if not frames and labels_frames(resolve_model(model, revision=revision, token=token), **settings.of_hub()):
            advice = "the model labels cells of time: open it with AutoModelForAudioFrameClassification."
        raise ValueError(
            f"model={os.fspath(model)!r} is not a trained classifier: the checkpoint has no {', '.join(missing)}. "
            f"With new, random weights every label would be wrong; {advice}"
        )
    return prepare_fast(classifier) if fast else classifier, feature_extractor


def load_encoder(
    model: str | os.PathLike[str],
    *,
    device: Device | None = "cpu",
    dtype: str | torch.dtype = "float32",
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[PreTrainedModel, SpectrogramFeatureExtractor]:
    """Load a model for embeddings, in eval mode and with its classifier if it has one, and its feature extractor.

    Args:
        model: As in `load_classifier`; an AST, SSAST or PaSST.
        device, dtype, revision, token: As in `load_classifier`.

    Raises:
        ValueError: The name is unknown, the model is of another family, or its checkpoint lacks weights.
        OSError: The checkpoint cannot be downloaded or read.
    """
    settings = _Settings(device=device, dtype=dtype, revision=revision, token=token)
    encoder, feature_extractor, missing = _load(
        model, HfASTForAudioClassification, AutoModelForAudioClassification, settings
    )
    if missing:
        encoder, feature_extractor, missing = _load(model, HfASTModel, AutoModel, settings)
    if missing:
        raise ValueError(f"model={os.fspath(model)!r} is incomplete: the checkpoint has no {', '.join(missing)}.")
    if not isinstance(feature_extractor, SpectrogramFeatureExtractor):
        raise ValueError(
            f"model={os.fspath(model)!r} is a {type(encoder).__name__}; embeddings need an AST, SSAST or PaSST."
        )
    return encoder, feature_extractor


def load_pretraining(
    model: str | os.PathLike[str],
    *,
    device: Device | None = "cpu",
    dtype: str | torch.dtype = "float32",
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[SSASTForPreTraining, SpectrogramFeatureExtractor]:
    """Load an SSAST with its pretraining heads, in eval mode, and its feature extractor.

    Args:
        model, device, dtype, revision, token: As in `load_classifier`.

    Raises:
        ValueError: The name is unknown, or the checkpoint is not a pretraining checkpoint.
        OSError: The checkpoint cannot be downloaded or read.
    """
    settings = _Settings(device=device, dtype=dtype, revision=revision, token=token)
    path = resolve_model(model, revision=revision, token=token)
    family = read_model_type(path, **settings.of_hub())
    if family != SSASTConfig.model_type:
        raise ValueError(f"model={os.fspath(model)!r} is of the family {family!r}, but must be a pretrained SSAST.")
    network, feature_extractor, missing = _load(path, SSASTForPreTraining, SSASTForPreTraining, settings)
    if missing:
        raise ValueError(
            f"model={os.fspath(model)!r} has no pretraining heads: the checkpoint lacks {', '.join(missing)}. "
            "Use one that `hf-ast pretrain` made, or a released one that was not fine-tuned."
        )
    return cast("SSASTForPreTraining", network), cast("SpectrogramFeatureExtractor", feature_extractor)


def _load(
    model: str | os.PathLike[str], native_class: Any, auto_class: Any, settings: _Settings
) -> tuple[PreTrainedModel, FeatureExtractor, list[str]]:
    """The model, its feature extractor, and the parameters that its checkpoint does not have."""
    device, dtype = find_device(settings.device), find_dtype(settings.dtype)
    path = resolve_model(model, revision=settings.revision, token=settings.token)
    try:
        if settings.frames and labels_frames(path, **settings.of_hub()):
            auto_class = AutoModelForAudioFrameClassification
        loaded, feature_extractor, missing = _load_from(path, native_class, auto_class, dtype, settings.of_hub())
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
    nn.Module.to(loaded, device)
    return loaded, feature_extractor, missing


def _load_from(
    path: str, native_class: Any, auto_class: Any, dtype: torch.dtype, of_hub: dict[str, Any]
) -> tuple[PreTrainedModel, FeatureExtractor, list[str]]:
    model_type = read_model_type(path, **of_hub)
    # Before the weights, which may have to be downloaded
    feature_extractor = load_feature_extractor(path, model_type, **of_hub)
    model_class = native_class if model_type == NATIVE_MODEL_TYPE else auto_class
    loaded, info = open_safely(model_class, path, dtype=dtype, output_loading_info=True, **of_hub)
    if isinstance(feature_extractor, SpectrogramFeatureExtractor):
        feature_extractor.min_length = loaded.config.min_frames  # which files from before this field do not tell
    return loaded, feature_extractor, missing_parameters(info)


def missing_parameters(info: Mapping[str, Any], *, optional: str | tuple[str, ...] = "\0") -> list[str]:
    """List the parameters that a checkpoint lacks, or has in another shape, which is named.

    Args:
        info: What `from_pretrained(..., output_loading_info=True)` says.
        optional: Beginnings of the names that may be missing, such as those of a new classifier.
    """
    mismatched = {name: tuple(wanted) for name, _, wanted in info["mismatched_keys"]}
    names = sorted({*info["missing_keys"], *mismatched})
    return [
        f"{name} of shape {mismatched[name]}" if name in mismatched else name
        for name in names
        if not name.startswith(optional)
    ]


def expect_complete(
    model: str | os.PathLike[str], info: Mapping[str, Any], *, optional: str | tuple[str, ...] = "\0"
) -> None:
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
