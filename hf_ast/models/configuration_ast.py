"""Config of the Audio Spectrogram Transformer."""

from huggingface_hub.dataclasses import strict

from .configuration_common import SpectrogramConfig
from .configuration_native_common import NATIVE_MODEL_TYPE


@strict
class HfASTConfig(SpectrogramConfig):
    """AST (Gong et al. 2021, https://arxiv.org/abs/2104.01778); see `SpectrogramConfig` for fields and defaults.

    It also reads the config.json of transformers' own AST; see `native_settings`.
    """

    model_type = "hf-ast"
    _auto_class = "AutoConfig"
    reads_native = True


__all__ = ["NATIVE_MODEL_TYPE", "HfASTConfig"]
