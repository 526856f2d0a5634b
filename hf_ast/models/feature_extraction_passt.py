"""Feature extractor of PaSST: waveforms in, normalised log-mel spectrograms out."""

import math
from typing import Any

from .feature_extraction_centred import CentredFeatureExtractor
from .modules_passt_mel import LOG_OFFSET, MEAN, STD, PaSSTLogMel


class PaSSTFeatureExtractor(CentredFeatureExtractor):
    """The official log-mel spectrogram (models/preprocess.py of PaSST) in eval mode; for training see `PaSSTMel`.

    The models take clips of any length up to a maximum, so a call pads to the longest clip of the batch by default.

    Args:
        sampling_rate: Rate that the waveforms must have, in Hz.
        num_mel_bins: Mel bins, M.
        max_length: Frames that clips are cut to; 1000 of 10 ms each are the window of the 10 s models.
        n_fft, window_length, hop_length: In samples.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale.
        mean, std: Features become (x - mean) / (2 std), by default (x + 4.5) / 5.
        do_normalize: Whether to normalise.
        padding_value: Value of padded frames in the result; that of silence if None.
        return_attention_mask: Whether to return the frame mask even with `padding="max_length"`.
        min_length: Frames of a patch of the model, to which a shorter clip is padded.
    """

    _auto_class = "AutoFeatureExtractor"
    front_end_class = PaSSTLogMel
    default_padding = "longest"
    padding_level = math.log(LOG_OFFSET)

    def __init__(
        self,
        sampling_rate: int = 32000,
        num_mel_bins: int = 128,
        max_length: int = 1000,
        n_fft: int = 1024,
        window_length: int = 800,
        hop_length: int = 320,
        low_frequency_hz: float = 0.0,
        high_frequency_hz: float = 15000.0,
        mean: float = MEAN,
        std: float = STD,
        do_normalize: bool = True,
        padding_value: float | None = None,
        return_attention_mask: bool = False,
        min_length: int = 16,
        **kwargs: Any,
    ):
        super().__init__(
            sampling_rate=sampling_rate,
            num_mel_bins=num_mel_bins,
            max_length=max_length,
            n_fft=n_fft,
            window_length=window_length,
            hop_length=hop_length,
            low_frequency_hz=low_frequency_hz,
            high_frequency_hz=high_frequency_hz,
            mean=mean,
            std=std,
            do_normalize=do_normalize,
            padding_value=padding_value,
            return_attention_mask=return_attention_mask,
            min_length=min_length,
            **kwargs,
        )


__all__ = ["PaSSTFeatureExtractor"]
