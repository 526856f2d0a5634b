"""Tagging of sound that arrives piece by piece, such as that of a microphone."""

from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_ast.data import audio

from .devices import Device, place, running
from .events import Event, EventSettings
from .features import FeatureExtractor
from .tagging import Tag, WindowScorer, top_tags
from .windows import Span


class StreamWindow(NamedTuple):
    """A window of a stream: start and end in seconds since the beginning, and scores (C,) with their labels."""

    start_s: float
    end_s: float
    scores: Tensor
    labels: list[str]

    def top(self, k: int = 5) -> list[Tag]:
        """The `k` labels with the largest scores, the largest first."""
        return top_tags(self.scores, self.labels, k)


class StreamTagger:
    """Scores windows of a stream as soon as they are complete: the windows, scores and events of `hf_ast.tag`.

    Memory and delay are bounded: it keeps less than one window of samples besides those of the current call, and a
    window is scored by the call that brings its last sample. An event is told by the call after which no later sample
    can change it: about a window after its end, because the last window ends with the stream, whenever that is.

    Example::

        tagger = StreamTagger(model, feature_extractor, hop_s=0.5)
        for samples in microphone:
            for window in tagger.push(samples):
                print(window.start_s, window.top(3))
            for event in tagger.new_events():
                print(event)
        windows = tagger.flush()
        events = tagger.new_events()

    Args:
        model, feature_extractor, window_s, hop_s, device, dtype, events: As in `hf_ast.tag`.
        batch_size: Windows per forward pass, where one call completes several; if None, 4 on a CPU, and 16 on an
            accelerator.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        feature_extractor: FeatureExtractor,
        *,
        window_s: float | None = None,
        hop_s: float | None = None,
        device: Device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int | None = None,
        **events: Unpack[EventSettings],
    ):
        place(model, device)
        # Separate features: a window's scores must not depend on which others the same call completes
        self._scorer = WindowScorer(
            model,
            feature_extractor,
            window_s=window_s,
            hop_s=hop_s,
            batch_size=batch_size,
            shared_features=False,
        )
        self._dtype = dtype
        with running(model, dtype):  # its errors now, not with the first window
            pass
        self._stream = self._scorer.stream()
        self._cells = self._scorer.cell_mean()
        self._finder = self._scorer.finder(**events)
        self._events: list[Event] = []
        self.labels = self._scorer.labels

    @property
    def sampling_rate(self) -> int:
        """Rate that the samples must have, in Hz."""
        return self._scorer.sampling_rate

    @property
    def hop_s(self) -> float:
        """Seconds between the starts of two windows."""
        return self._scorer.hop / self._scorer.sampling_rate

    def push(self, samples: Any) -> list[StreamWindow]:
        """Take the next samples of the stream.

        Args:
            samples: Mono, float in [-1, 1] at `sampling_rate`, shape (S,); any number of them, even none.

        Returns:
            The windows that became complete, in order; often none.

        Raises:
            ValueError: The samples have another shape or kind, or are NaN or infinite. Then none of them is taken.
        """
        samples = audio.as_floats("samples", samples)
        if samples.ndim != 1:
            raise ValueError(
                f"samples has shape {samples.shape}, but must be mono, shape (samples,); take the mean over channels."
            )
        if not np.isfinite(samples).all():
            raise ValueError("samples holds NaN or infinite values.")
        return self._scored(self._stream.push(samples))

    def flush(self) -> list[StreamWindow]:
        """End the stream, and begin a new one.

        Returns:
            The window that ends with the stream, unless it was complete before: together with those of `push`, the
            windows cover every sample.
        """
        windows = self._scored(self._stream.flush())
        last = self._cells.flush()
        if len(last.scores):
            self._events += self._finder.push(*last)
        self._events += self._finder.flush()
        return windows

    def new_events(self) -> list[Event]:
        """Return the events that were settled since the last call, in the order of their starts."""
        events, self._events = sorted(self._events, key=lambda event: event.start_s), []
        return events

    def _scored(self, span: Span | None) -> list[StreamWindow]:
        windows = []
        if span is not None:
            with running(self._scorer.model, self._dtype):
                for batch in map(self._scorer.score, self._scorer.batches(span)):
                    cells = self._cells.push(batch.starts, batch.length, batch.scores.numpy())
                    self._events += self._finder.push(*cells)
                    times_s = self._scorer.times_s(batch.starts, batch.length).tolist()
                    scores = batch.scores.amax(dim=1)
                    windows += [
                        StreamWindow(start_s, end_s, row, self.labels)
                        for (start_s, end_s), row in zip(times_s, scores, strict=True)
                    ]
        return windows
