"""Config of the Patchout faSt Spectrogram Transformer."""

from huggingface_hub.dataclasses import strict

from .configuration_common import SpectrogramConfig


@strict
class PaSSTConfig(SpectrogramConfig):
    """PaSST (Koutini et al. 2022, https://arxiv.org/abs/2110.05069); see `SpectrogramConfig` for the fields.

    The defaults are PaSST-S: 10 s at a hop length of 320 samples, base size. The released checkpoints were trained
    with `position_crop="random"` and, for a stride of 10, `time_patchout=40, frequency_patchout=4`; set these to
    fine-tune in the same way.
    """

    model_type = "passt"
    _auto_class = "AutoConfig"

    max_length: int = 998
    position_table: str = "factorised"


__all__ = ["PaSSTConfig"]
