"""Config of the Audio Spectrogram Transformer."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.utils.versions import require_version

from .configuration_common import SpectrogramConfig

# The model type of transformers' own AST
NATIVE_MODEL_TYPE = "audio-spectrogram-transformer"
AUDIOSET_NUM_LABELS = 527


@strict
class HfASTConfig(SpectrogramConfig):
    """AST (Gong et al. 2021, https://arxiv.org/abs/2104.01778); see `SpectrogramConfig` for fields and defaults."""

    model_type = "hf-ast"
    _auto_class = "AutoConfig"

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a config.json; one of transformers' own AST becomes one of ours, with the official settings."""
        values, unused = super().get_config_dict(*args, **kwargs)
        if values.get("model_type") == NATIVE_MODEL_TYPE:
            # Before, some layers would keep their random weights, without an error
            require_version("transformers>=5.9", "It is needed to open checkpoints of transformers' own AST; upgrade.")
            values = official_settings(values)
        return values, unused


def official_settings(native: dict[str, Any]) -> dict[str, Any]:
    """Return a config of transformers' own AST without its differences from the official code.

    Its layer-norm epsilon is dropped (the official values are our defaults), and a model with AudioSet's 527 labels
    becomes multi-label, which the published configs do not say, so that the pipeline applies a sigmoid.
    """
    dropped = ("model_type", "layer_norm_eps", "architectures", "transformers_version")
    values = {name: value for name, value in native.items() if name not in dropped}
    if len(values.get("id2label") or ()) == AUDIOSET_NUM_LABELS and values.get("problem_type") is None:
        values["problem_type"] = "multi_label_classification"
    return values


__all__ = ["HfASTConfig"]
