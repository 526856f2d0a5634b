"""What is heard in a recording of any length: scores per window and of the whole, and events with their times."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import BatchFeature, PreTrainedModel

from hf_ast.data import audio
from hf_ast.models.feature_extraction_checks import as_count
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modeling_common import SpectrogramForAudioFrameClassification

from .cells import CellMean, model_cells
from .devices import Device, default_batch_size, place, running
from .events import Event, EventFinder, EventRule, EventSettings
from .features import FeatureExtractor, check_front_end, longest_input, model_window, window_features
from .rows import Rows
from .windows import Span, WindowStream, as_samples, check_windows

POOLINGS = ("mean", "max", "energy")
# Windows per forward pass that a CPU computes fastest
BATCH_SIZE_ON_CPU = 4
# Windows whose scores are put together at a time
NUM_JOINED = 64


class Tag(NamedTuple):
    """A label and its score."""

    label: str
    score: float


@dataclass(frozen=True, eq=False)
class Tagging:
    """What a model hears in a recording.

    Args:
        labels: Names of the classes, in the order of the scores, C.
        window_scores: Scores of each window, float32, shape (K, C): the largest in it, if the model labels cells.
        window_times_s: Start and end of each window in seconds, float64, shape (K, 2).
        cell_scores: Scores of consecutive cells of time, float32, shape (N, C); see `CellMean`.
        cell_edges_s: Edges of the cells in seconds, float64, shape (N + 1,).
        scores: Scores of the whole recording, float32, shape (C,).
        events: Those of `find_events` in the cells.
        rule: How they follow from the scores of the cells.
        duration_s: Length of the recording in seconds.
    """

    labels: list[str]
    window_scores: Tensor
    window_times_s: Tensor
    cell_scores: Tensor
    cell_edges_s: Tensor
    scores: Tensor
    events: list[Event]
    rule: EventRule
    duration_s: float

    def top(self, k: int = 5) -> list[Tag]:
        """The `k` labels (or all, if fewer) with the largest scores of the whole recording, the largest first."""
        return top_tags(self.scores, self.labels, k)

    def window_top(self, k: int = 5) -> list[list[Tag]]:
        """The same for each window."""
        return [top_tags(scores, self.labels, k) for scores in self.window_scores]


class WindowBatch(NamedTuple):
    """Consecutive windows: their model inputs, first samples, length, and mean powers (n,)."""

    inputs: BatchFeature
    starts: list[int]
    length: int
    energy: Tensor


class ScoredBatch(NamedTuple):
    """Consecutive windows: first samples, length, scores of their cells (n, K, C), and mean powers (n,)."""

    starts: list[int]
    length: int
    scores: Tensor
    energy: Tensor


class ScoredWindows(NamedTuple):
    """Scores of consecutive windows (n, C), their times in seconds (n, 2), and the mean power of each, shape (n,)."""

    scores: Tensor
    times_s: Tensor
    energy: Tensor


class WindowScorer:
    """A model that scores windows: the settings that tagging, streaming and corpora share.

    Args:
        model: A model of ours that labels clips or cells of time, or any other one that labels waveforms; its device
            and dtype are used.
        feature_extractor: Its feature extractor.
        window_s: Length of a window, in seconds; what the model hears at once if None.
        hop_s: Seconds between the starts of two windows, at most `window_s`; `window_s`, so no overlap, if None. The
            windows of a model that labels cells are a whole number of cells apart, the next lower one.
        batch_size: Windows per forward pass; if None, 4 on a CPU, and 16 on an accelerator.
        shared_features: Whether overlapping windows are slices of one spectrogram where that is possible; see
            `window_features`.

    Raises:
        ValueError: A window is shorter than a frame or longer than the model's input, or `hop_s` leaves gaps.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        feature_extractor: FeatureExtractor,
        *,
        window_s: float | None = None,
        hop_s: float | None = None,
        batch_size: int | None = None,
        shared_features: bool = True,
    ):
        self.model = model
        self.feature_extractor = feature_extractor
        self.labels = label_names(model)
        self.sampling_rate: int = feature_extractor.sampling_rate
        check_front_end(model, feature_extractor)
        longest = model_window(feature_extractor)
        self.window = longest if window_s is None else as_samples("window_s", window_s, self.sampling_rate)
        self.hop = self.window if hop_s is None else as_samples("hop_s", hop_s, self.sampling_rate)
        if self.window > longest and longest_input(feature_extractor) is not None:
            raise ValueError(
                f"window_s={window_s} is longer than what the model hears at once ({longest / self.sampling_rate:.5g} "
                "s); take a shorter one, or load both the model and the extractor with a larger max_length."
            )
        check_windows(self.window, self.hop)
        if (cells := model_cells(model, feature_extractor)) is not None:
            num_cells = cells.number(self.window)
            if hop_s is not None:
                num_cells = min(num_cells, max(1, math.floor(self.hop / cells.length + 1e-6)))
            self.hop = min(self.window, round(num_cells * cells.length))
        self.cells = cells
        if batch_size is None:
            batch_size = default_batch_size(model.device, BATCH_SIZE_ON_CPU)
        self.batch_size = as_count("batch_size", batch_size)
        self.shared_features = shared_features

    def describe(self) -> str:
        """Tell in a few words what scores are of."""
        window_s, hop_s = (f"{length / self.sampling_rate:.4g} s" for length in (self.window, self.hop))
        of = f"frames of {1000 * self.cell_mean().cell_s:.4g} ms, in windows" if self.cells else "windows"
        return f"scores of {of} of {window_s}, every {hop_s}"

    @property
    def block_s(self) -> float:
        """Length of the pieces of a recording that complete one batch of windows, in seconds."""
        return self.hop * self.batch_size / self.sampling_rate

    def stream(self) -> WindowStream:
        """Return what cuts a recording into windows. The last one begins with a cell, if the model labels cells."""
        return WindowStream(self.window, self.hop, 1 if self.cells is None else max(1, round(self.cells.length)))

    def cell_mean(self) -> CellMean:
        """Return what makes the scores of a recording's cells from those of its windows."""
        return CellMean(self.hop, self.sampling_rate, self.cells)

    def finder(self, **events: Unpack[EventSettings]) -> EventFinder:
        """Return what finds events in the scores of a recording's cells, by default with the model's thresholds."""
        own = None if self.cells is None else self.model.config.event_thresholds
        if own is not None:
            events.setdefault("threshold", dict(zip(self.labels, own, strict=True)))
        return EventFinder(self.labels, self.cell_mean().cell_s, **events)

    def spans(self, blocks: Iterable[Any]) -> Iterator[Span]:
        """Cut a recording, which comes as consecutive pieces (S,), into spans of windows."""
        stream = self.stream()
        for block in blocks:
            if (span := stream.push(block)) is not None:
                yield span
        if (span := stream.flush()) is not None:
            yield span

    def batches(self, span: Span) -> Iterator[WindowBatch]:
        """Make the model inputs of the windows of a span, batch by batch, on the device of the model."""
        heard = span
        if isinstance(self.feature_extractor, SpectrogramFeatureExtractor):  # others take arrays only
            heard = span.on_device(self.model.device)
        for first in range(0, len(span.starts), self.batch_size):
            part = span._replace(starts=span.starts[first : first + self.batch_size])
            inputs = window_features(
                self.feature_extractor,
                heard._replace(starts=part.starts),
                self.window,
                shared=self.shared_features,
                device=self.model.device,
            )
            clips = part.windows(self.window)
            energy = torch.tensor([float((clip * clip).mean()) for clip in clips])
            yield WindowBatch(inputs, part.starts, len(clips[0]), energy)

    @torch.inference_mode()
    def score(self, batch: WindowBatch) -> ScoredBatch:
        """Run the model, which must be in eval mode (`running`)."""
        logits = self.model(**batch.inputs.to(self.model.dtype)).logits
        return ScoredBatch(batch.starts, batch.length, self.scores(logits, batch.length), batch.energy)

    def scores(self, logits: Tensor, num_samples: int) -> Tensor:
        """Scores (n, K, C) of the cells of windows, float32 on the CPU, from the logits of the model.

        Cells in the padding behind a short window are left out. A model of whole windows gives each one cell.
        """
        if self.cells is not None:
            return logits[:, : self.cells.number(num_samples)].float().sigmoid().cpu()
        return apply_activation(logits.float(), self.model.config.problem_type).cpu().unsqueeze(1)

    def times_s(self, starts: Sequence[int], length: int) -> Tensor:
        """Start and end of windows in seconds, shape (n, 2)."""
        starts_s = torch.tensor(starts, dtype=torch.float64) / self.sampling_rate
        return torch.stack((starts_s, starts_s + length / self.sampling_rate), dim=1)


def tag(
    model: PreTrainedModel,
    feature_extractor: FeatureExtractor,
    source: Any,
    *,
    sampling_rate: int | None = None,
    window_s: float | None = None,
    hop_s: float | None = None,
    pooling: str = "mean",
    device: Device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int | None = None,
    shared_features: bool = True,
    progress: bool = False,
    **events: Unpack[EventSettings],
) -> Tagging:
    """Tag a recording of any length.

    The recording is read, resampled and scored piece by piece, so that memory does not grow with its length beyond
    the scores. Windows cover all of it; the last one ends with the recording.

    Args:
        model: A model that labels clips, or cells of time (`...ForAudioFrameClassification`), on any device; it runs
            in eval mode.
        feature_extractor: Its feature extractor.
        source: A path, URL, bytes, waveform, or audio value of `datasets`, mono or not; see `hf_ast.audio`.
        sampling_rate: Rate of a waveform that does not carry its own, in Hz; the extractor's if None.
        window_s: Length of a window, in seconds; what the model hears at once if None.
        hop_s: Seconds between the starts of two windows, at most `window_s`; no overlap if None. A cell's score is the
            mean over the windows that cover it.
        pooling: How the scores of the whole recording follow from those of its windows: "mean", "max", or "energy" (a
            mean that is weighted by the mean power of each window, so that silence counts little). The mean is the
            default because it tells what the recording is about, whatever its length; with the maximum, longer
            recordings get more labels by chance. Sounds that are heard only for a moment are among the events.
        device: Where the model runs from now on; where it is if None.
        dtype: "bfloat16" or "float16" to compute in it with weights in float32; that of the weights if None. Scores
            are computed in float32.
        batch_size: Windows per forward pass; if None, 4 on a CPU, and 16 on an accelerator.
        shared_features: See `window_features`.
        progress: Whether to show a progress bar on stderr.
        events: How events follow from the scores of cells; see `EventRule`.

    Returns:
        The scores, labels and events. Scores are probabilities, which are independent for multi-label models and else
        sum to one; for regression they are the model's own values.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Wrong settings; or the source is not a recording, is empty, or holds NaN or infinite values.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r} is unknown; choose one of {POOLINGS}.")
    place(model, device)
    scorer = WindowScorer(
        model,
        feature_extractor,
        window_s=window_s,
        hop_s=hop_s,
        batch_size=batch_size,
        shared_features=shared_features,
    )
    finder = scorer.finder(**events)  # its errors before the work, not after it
    source = audio.unwrap(source)
    rate = scorer.sampling_rate
    blocks = audio.stream(source, rate, source_rate=sampling_rate, block_s=scorer.block_s)
    with running(model, dtype), _progress_bar(source, sampling_rate or rate, progress) as bar:

        def scored() -> Iterator[ScoredBatch]:
            for span in scorer.spans(blocks):
                for batch in scorer.batches(span):
                    yield scorer.score(batch)
                    bar.update(round((batch.starts[-1] + batch.length) / rate - bar.n, 1))

        return collect(scorer, scored(), finder, pooling)


def collect(
    scorer: WindowScorer, batches: Iterable[ScoredBatch], finder: EventFinder, pooling: str = "mean"
) -> Tagging:
    """Put the scores of a recording's windows together; `finder` is that of the scorer, `pooling` as in `tag`."""
    scores, times_s, energy, cells, edges_s = Rows("f"), Rows("d"), Rows("f"), Rows("f"), Rows("d")
    mean = scorer.cell_mean()
    edges_s.append(np.zeros(1))
    for batch in _in_larger_batches(batches):
        scores.append(batch.scores.amax(dim=1))
        times_s.append(scorer.times_s(batch.starts, batch.length))
        energy.append(batch.energy)
        settled = mean.push(batch.starts, batch.length, batch.scores.numpy())
        cells.append(settled.scores)
        edges_s.append(settled.edges_s[1:])
    if not len(scores):
        raise ValueError(f"source has less than one sample at {scorer.sampling_rate} Hz.")
    last = mean.flush()
    cells.append(last.scores)
    edges_s.append(last.edges_s[1:])
    windows = ScoredWindows(scores.tensor(), times_s.tensor(), energy.tensor().flatten())
    cell_scores, cell_edges_s = cells.tensor(), edges_s.tensor().flatten()
    return Tagging(
        labels=scorer.labels,
        window_scores=windows.scores,
        window_times_s=windows.times_s,
        cell_scores=cell_scores,
        cell_edges_s=cell_edges_s,
        scores=pool_scores(windows, pooling),
        events=finder.whole(cell_scores.numpy(), cell_edges_s.numpy()),
        rule=finder.rule,
        duration_s=windows.times_s[-1, 1].item(),
    )


def _in_larger_batches(batches: Iterable[ScoredBatch]) -> Iterator[ScoredBatch]:
    """Join batches of windows of one length: the mean over windows costs most per batch."""
    waiting: list[ScoredBatch] = []
    for batch in batches:
        if waiting and (batch.length != waiting[0].length or sum(len(part.starts) for part in waiting) >= NUM_JOINED):
            yield _as_one(waiting)
            waiting = []
        waiting.append(batch)
    if waiting:
        yield _as_one(waiting)


def _as_one(batches: Sequence[ScoredBatch]) -> ScoredBatch:
    scores, energy = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("scores", "energy"))
    return ScoredBatch([start for batch in batches for start in batch.starts], batches[0].length, scores, energy)


def pool_scores(windows: ScoredWindows, pooling: str = "mean") -> Tensor:
    """Scores of a whole recording (C,) from those of its windows, by one of `POOLINGS`; see `tag`."""
    if pooling == "max":
        return windows.scores.amax(dim=0)
    if pooling == "energy" and windows.energy.sum() > 0:
        weights = windows.energy / windows.energy.sum()
        return (weights.unsqueeze(1) * windows.scores).sum(dim=0)
    return windows.scores.mean(dim=0)


def score_inputs(model: PreTrainedModel, inputs: Any) -> Tensor:
    """Scores (B, C) of model inputs, by the activation that belongs to the problem type of the model.

    Raises:
        ValueError: The model labels cells of time, or a score is NaN or infinite.
    """
    if isinstance(model, SpectrogramForAudioFrameClassification):
        raise ValueError(
            f"model is a {type(model).__name__}, which labels cells of time; `hf_ast.tag` takes it, and "
            "`load_classifier` without frames=True opens its labels of clips."
        )
    scores = apply_activation(model(**inputs).logits.float(), model.config.problem_type)
    expect_finite_outputs(model, scores)
    return scores


def expect_finite_outputs(model: PreTrainedModel, values: Tensor) -> None:
    """Raise a ValueError if what a model computed is NaN or infinite, which no result may hold."""
    if not values.isfinite().all():
        raise ValueError(
            f"The {type(model).__name__} computed values that are NaN or infinite; if it runs in float16, take "
            "float32 or bfloat16."
        )


def apply_activation(logits: Tensor, function: str | None) -> Tensor:
    """Logits (B, C) -> scores.

    Args:
        logits: Of any model.
        function: "sigmoid", "softmax" or "none"; or the problem type that implies one of them: independent
            probabilities for multi-label models, raw values for regression, and by default probabilities that sum to
            one.
    """
    if function in ("sigmoid", "multi_label_classification"):
        return logits.sigmoid()
    return logits if function in ("none", "regression") else logits.softmax(-1)


def label_names(model: PreTrainedModel) -> list[str]:
    """Names of the classes of a model, in the order of its logits, C."""
    by_index: Any = model.config.id2label
    return [by_index[index] for index in range(len(by_index))]


def top_tags(scores: Tensor, labels: list[str], k: int) -> list[Tag]:
    """The `k` labels (or all, if fewer) with the largest scores, from scores (C,), the largest first."""
    if k < 1:
        raise ValueError(f"k={k} must be at least 1.")
    best = scores.topk(min(k, len(scores)))
    return [
        Tag(labels[index], score) for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _progress_bar(source: Any, source_rate: int, shown: bool) -> tqdm:
    """A bar over the seconds of a recording."""
    total = round(audio.duration(source, source_rate=source_rate), 1) if shown else None
    bar_format = "{l_bar}{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
    return tqdm(total=total, disable=not shown, leave=False, bar_format=bar_format)
