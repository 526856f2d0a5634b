"""transformers pipelines for recordings of any length, in any form, without ffmpeg or torchaudio."""

from collections.abc import Iterator, Sequence
from typing import Any, Unpack, cast

import numpy as np
import torch
from torch import Tensor
from transformers import AudioClassificationPipeline, PreTrainedModel
from transformers.pipelines.base import ChunkPipeline

from hf_ast.data import audio
from hf_ast.families import MODEL_TYPES

from .events import EventSettings
from .features import FeatureExtractor, clip_features
from .tagging import ScoredBatch, WindowScorer, apply_activation, collect, label_names, top_tags


class WindowPipeline(ChunkPipeline):
    """Base of both pipelines: it turns a recording into windows, and each window into logits.

    The front end runs with the model, on its device: what reads and cuts recordings may be another process.
    """

    def scorer(
        self, chunk_length_s: float | None = None, stride_length_s: float | Sequence[float] | None = None
    ) -> WindowScorer:
        """The model with windows as the arguments say."""
        window_s, hop_s = windows_from_chunks(chunk_length_s, stride_length_s)
        extractor: Any = self.feature_extractor
        return WindowScorer(self.model, extractor, window_s=window_s, hop_s=hop_s)

    def preprocess(self, inputs: Any, **windows: Any) -> Iterator[dict[str, Any]]:
        """Samples of each window (S,), with where they begin and how many they are, and whether it `is_last`."""
        scorer = self.scorer(**windows)
        blocks = audio.stream(inputs, scorer.sampling_rate, block_s=scorer.block_s)
        previous = None
        for span in scorer.spans(blocks):
            for start, clip in zip(span.starts, span.windows(scorer.window), strict=True):
                if previous is not None:
                    yield {"is_last": False, **previous}
                # Times as whole samples, because not every device has float64; an array stays on the host
                previous = {
                    "samples": np.asarray(clip),
                    "extent": torch.tensor([[start, start + len(clip)]]),
                    "energy": torch.tensor([float((clip * clip).mean())]),
                }
        if previous is not None:  # the stream of an empty recording raises an error
            yield {"is_last": True, **previous}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        names = ("is_last", "extent", "energy")
        outputs: dict[str, Any] = {name: model_inputs.pop(name) for name in names if name in model_inputs}
        inputs: Any = model_inputs
        if "samples" in model_inputs:  # one window, or a list of them
            samples, extractor = model_inputs["samples"], cast("FeatureExtractor", self.feature_extractor)
            clips = samples if isinstance(samples, list) else [samples]
            inputs = clip_features(extractor, clips, device=self.device).to(self.model.dtype)
        return outputs | {"logits": self.model(**inputs).logits}


class WholeAudioClassificationPipeline(WindowPipeline, AudioClassificationPipeline):
    """`AudioClassificationPipeline` that scores whole recordings where the model is one of ours.

    The recording is cut into windows that cover all of it, and the scores of the windows are averaged. A recording
    that fits into one window is scored as transformers does. Models of other families run transformers' own code.

    Besides the inputs of transformers, it takes every form of a recording that `hf_ast.audio` knows, such as audio
    values and rows of `datasets`, and waveforms with several channels or at other sampling rates. Files are read as
    `hf_ast.audio.read` reads them.

    Args:
        chunk_length_s: Length of a window in seconds, at most what the model hears at once, which is the default.
        stride_length_s: Overlap of neighbouring windows on the left and the right of each, in seconds, one number or a
            pair, as in the speech-recognition pipeline: windows start `chunk_length_s - left - right` apart. By
            default a sixth of `chunk_length_s` if that is given, else there is no overlap. The last window ends with
            the recording.
        top_k, function_to_apply: As in `AudioClassificationPipeline`; the function is applied to each window.
    """

    def _sanitize_parameters(
        self,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        chunk_length_s: float | None = None,
        stride_length_s: float | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward, postprocess = super()._sanitize_parameters(top_k, function_to_apply, **kwargs)
        return preprocess | _given(chunk_length_s, stride_length_s), forward, postprocess

    def preprocess(self, inputs: Any, **windows: Any) -> Iterator[dict[str, Any]]:
        """A recording -> the model inputs of its windows."""
        if self.model.config.model_type in MODEL_TYPES:
            yield from super().preprocess(inputs, **windows)
        else:
            yield {"is_last": True, **AudioClassificationPipeline.preprocess(self, inputs)}

    def postprocess(
        self, model_outputs: list[dict[str, Any]], top_k: int = 5, function_to_apply: str | None = None
    ) -> list[dict[str, Any]]:
        """Logits of the windows -> the labels with the largest mean scores."""
        scores = _window_scores(self.model, model_outputs, function_to_apply)
        return _as_dicts(self.model, scores.mean(dim=0), top_k)


class AudioTaggingPipeline(WindowPipeline):
    """Pipeline "audio-tagging": what is heard in a recording of any length, and when; see `hf_ast.tag`.

    It takes any model for audio classification, one that labels cells of time (as an object, not by its name), and the
    inputs of `WholeAudioClassificationPipeline`.

    Args:
        chunk_length_s, stride_length_s: As in `WholeAudioClassificationPipeline`.
        top_k: Number of labels to return for the whole recording; all if None.
        pooling: As in `hf_ast.tag`.
        threshold, release, median_s, shortest_s, longest_gap_s: See `EventRule`.

    Returns:
        For each recording `{"scores": [{"label", "score"}, ...], "events": [{"label", "start_s", "end_s", "peak"},
        ...], "duration_s": ...}`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def _sanitize_parameters(
        self,
        chunk_length_s: float | None = None,
        stride_length_s: float | Sequence[float] | None = None,
        **postprocess: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = postprocess.keys() - {"top_k", "pooling", *EventSettings.__annotations__}
        if unknown:
            raise ValueError(f"The audio-tagging pipeline has no argument {', '.join(sorted(unknown))}.")
        windows = _given(chunk_length_s, stride_length_s)
        return windows, {}, windows | postprocess

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        top_k: int | None = 5,
        pooling: str = "mean",
        chunk_length_s: float | None = None,
        stride_length_s: float | Sequence[float] | None = None,
        **events: Unpack[EventSettings],
    ) -> dict[str, Any]:
        """Logits of the windows -> scores of the recording, and its events."""
        scorer = self.scorer(chunk_length_s, stride_length_s)

        def scored() -> Iterator[ScoredBatch]:
            for output in model_outputs:
                for (start, end), logits, energy in zip(
                    output["extent"].tolist(), output["logits"], output["energy"], strict=True
                ):
                    yield ScoredBatch([start], end - start, scorer.scores(logits[None], end - start), energy[None])

        tagging = collect(scorer, scored(), scorer.finder(**events), pooling)
        return {
            "scores": _as_dicts(self.model, tagging.scores, top_k or len(tagging.labels)),
            "events": [event._asdict() for event in tagging.events],
            "duration_s": tagging.duration_s,
        }


def windows_from_chunks(
    chunk_length_s: float | None, stride_length_s: float | Sequence[float] | None
) -> tuple[float | None, float | None]:
    """Length and hop of windows, in seconds, from the arguments of transformers' speech-recognition pipeline."""
    if not chunk_length_s:
        if stride_length_s is not None:
            raise ValueError(f"stride_length_s={stride_length_s} needs chunk_length_s, of which it is a part.")
        return None, None
    overlap = chunk_length_s / 6 if stride_length_s is None else stride_length_s
    left, right = (overlap, overlap) if isinstance(overlap, int | float) else overlap
    if min(left, right) < 0 or left + right >= chunk_length_s:
        raise ValueError(
            f"stride_length_s={stride_length_s} must not be negative, and on both sides together it must be shorter "
            f"than chunk_length_s={chunk_length_s}."
        )
    return chunk_length_s, chunk_length_s - left - right


def _given(chunk_length_s: float | None, stride_length_s: float | Sequence[float] | None) -> dict[str, Any]:
    arguments = {"chunk_length_s": chunk_length_s, "stride_length_s": stride_length_s}
    return {name: value for name, value in arguments.items() if value is not None}


def _window_scores(
    model: PreTrainedModel, model_outputs: list[dict[str, Any]], function_to_apply: str | None = None
) -> Tensor:
    logits = torch.cat([output["logits"] for output in model_outputs]).float()
    if logits.ndim != 2:
        raise ValueError(f"model is a {type(model).__name__}, which labels cells of time; use hf_ast.tag.")
    return apply_activation(logits, function_to_apply or model.config.problem_type)


def _as_dicts(model: PreTrainedModel, scores: Tensor, top_k: int) -> list[dict[str, Any]]:
    return [{"score": score, "label": label} for label, score in top_tags(scores, label_names(model), top_k)]
