"""The feature extractor of a model, by what its folder names: one of ours, or an error."""

import os
from typing import Any

from transformers import AutoFeatureExtractor, FeatureExtractionMixin, PreTrainedConfig

from hf_ast.auto import load
from hf_ast.families import FAMILIES, MODEL_TYPES
from hf_ast.models.configuration_native_common import NATIVE_MODEL_TYPE
from hf_ast.models.feature_extraction_checks import expect_front_end, front_end_name
from hf_ast.opening import open_safely

from .features import FeatureExtractor


def read_model_type(path: str | os.PathLike[str], **hub: Any) -> str | None:
    """Return the model type in the config.json of a folder or Hub id, whatever else is in it."""
    values, _ = PreTrainedConfig.get_config_dict(path, **hub)
    return values.get("model_type")


def labels_frames(path: str | os.PathLike[str], **hub: Any) -> bool:
    """Whether the config.json of a folder or Hub id is that of a model which labels cells of time."""
    values, _ = PreTrainedConfig.get_config_dict(path, **hub)
    return any(name.endswith("ForAudioFrameClassification") for name in values.get("architectures") or ())


def load_feature_extractor(path: str | os.PathLike[str], model_type: str | None, **hub: Any) -> FeatureExtractor:
    """Load the feature extractor that a model was trained with.

    For a model that opens as one of ours, that is one of ours, by the name in its folder; transformers' own
    `ASTFeatureExtractor`, and the official `MAESTFeatureExtractor`, open as ours, without running code of the folder.
    Any other model gets the feature extractor that transformers finds.

    Args:
        path: Folder or Hub id.
        model_type: Model type in its config.json.
        hub: Arguments of `from_pretrained`.

    Raises:
        ValueError: A model that opens as one of ours names a feature extractor that we do not have.
        OSError: There is no preprocessor_config.json.
    """
    if model_type != NATIVE_MODEL_TYPE and model_type not in MODEL_TYPES:
        any_extractor: FeatureExtractor = open_safely(AutoFeatureExtractor, path, **hub)
        return any_extractor
    classes = {reader: cls for cls in _front_ends(model_type) for reader in (cls.__name__, *cls.equals)}
    values, _ = FeatureExtractionMixin.get_feature_extractor_dict(path, **hub)
    expect_front_end(values, classes, path)
    own: Any = classes[front_end_name(values) or next(iter(classes))]
    feature_extractor: FeatureExtractor = own.from_pretrained(path, **hub)
    return feature_extractor


def _front_ends(model_type: str | None) -> list[Any]:
    """Our feature extractors, that of a family first; transformers' own AST has that of ours."""
    own = [family for family in FAMILIES if family.model_type == model_type]
    return list(dict.fromkeys(load(family.feature_extractor) for family in (*own, *FAMILIES)))
