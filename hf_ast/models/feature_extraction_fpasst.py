"""Feature extractor of fPaSST: waveforms in, normalised log-mel spectrograms out."""

import math
from typing import Any

from .feature_extraction_centred import CentredFeatureExtractor
from .modules_fpasst_mel import LOG_FLOOR, MEAN, STD, FPaSSTLogMel


class FPaSSTFeatureExtractor(CentredFeatureExtractor):
    """The official log-mel spectrogram (models/frame_passt/preprocess.py of PretrainedSED); for training `FPaSSTMel`.

    The models were trained on 10 s, and a shorter clip is completed with silence by default: zeros after the waveform,
    as in the official inference.py.

    Args:
        sampling_rate: Rate that the waveforms must have, in Hz.
        num_mel_bins: Mel bins, M.
        max_length: Frames that clips are completed or cut to.
        n_fft, window_length, hop_length: In samples.
        low_frequency_hz, high_frequency_hz: Edges of the mel scale.
        mean, std: Features become (x - mean) / (2 std), by default (x + 4.5) / 5.
        do_normalize: Whether to normalise.
        padding_value: Value of padded frames in the result; that of silence if None.
        return_attention_mask: Whether to return the frame mask even with `padding="max_length"`.
        min_length: Frames of the model's shortest input, to which a shorter clip is padded.
    """

    _auto_class = "AutoFeatureExtractor"
    front_end_class = FPaSSTLogMel
    padding_level = math.log(LOG_FLOOR)
    completes_waveform = True

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        max_length: int = 1000,
        n_fft: int = 512,
        window_length: int = 400,
        hop_length: int = 160,
        low_frequency_hz: float = 0.0,
        high_frequency_hz: float = 7000.0,
        mean: float = MEAN,
        std: float = STD,
        do_normalize: bool = True,
        padding_value: float | None = None,
        return_attention_mask: bool = False,
        min_length: int = 1,
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


__all__ = ["FPaSSTFeatureExtractor"]
