"""transformers' audio-classification pipeline, reading files without ffmpeg for our models."""

import os
from typing import Any

import numpy as np
from transformers import AudioClassificationPipeline

from hf_ast import audio
from hf_ast.families import MODEL_TYPES


class AudioClassificationFilePipeline(AudioClassificationPipeline):
    """`AudioClassificationPipeline` that reads and resamples with soundfile and soxr where the model is ours.

    transformers needs ffmpeg for files and torchaudio for other sampling rates. Models of other families, and what
    soundfile is not for (URLs, decoders), go to transformers' own code.
    """

    def preprocess(self, inputs: Any) -> Any:
        """A path, the bytes of a file, a waveform (S,), or `{"array": ..., "sampling_rate": ...}` -> model inputs."""
        if self.model.config.model_type in MODEL_TYPES:
            inputs = self._waveform(inputs)
        return super().preprocess(inputs)

    def _waveform(self, inputs: Any) -> Any:
        rate = self.feature_extractor.sampling_rate
        if isinstance(inputs, os.PathLike | bytes) or (
            isinstance(inputs, str) and not inputs.startswith(("http://", "https://"))
        ):
            return audio.read(inputs, rate)[0]
        if isinstance(inputs, dict) and inputs.get("sampling_rate", rate) != rate:
            key = "raw" if inputs.get("raw") is not None else "array"
            waveform = np.asarray(inputs[key])
            if waveform.ndim == 1:
                return audio.resample(waveform, inputs["sampling_rate"], rate)
        return inputs
