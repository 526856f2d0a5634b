"""Scores per cell of time, from the scores of windows that may overlap."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel

from hf_ast.models.modeling_common import SpectrogramForAudioFrameClassification

from .features import FeatureExtractor


class CellScores(NamedTuple):
    """Scores (n, C) of consecutive cells of time, float32, and their edges (n + 1,) in seconds, float64."""

    scores: np.ndarray
    edges_s: np.ndarray


class ModelCells:
    """The cells into which a model divides what it hears, in samples.

    Attributes:
        length: Distance between two cells.
        first_middle: Middle of the first cell.

    Raises:
        ValueError: The model and the feature extractor do not fit together, so that cells would have wrong times.
    """

    def __init__(self, model: SpectrogramForAudioFrameClassification, feature_extractor: Any):
        self._config: Any = model.config
        self._extractor = feature_extractor
        check_frame_shift(self._config, feature_extractor)
        if self._config.num_cells is not None and feature_extractor.max_length != self._config.max_length:
            raise ValueError(
                f"The model divides {self._config.max_length} frames into num_cells={self._config.num_cells}, but the "
                f"feature extractor has max_length={feature_extractor.max_length}; load both with the same one."
            )
        rate = feature_extractor.sampling_rate
        self.length: float = self._config.cell_s * rate
        self.first_middle: float = self._config.first_centre_s(feature_extractor.first_frame_s) * rate

    def number(self, num_samples: int) -> int:
        """Cells of a clip of that many samples, without those in the padding behind it."""
        if self._config.num_cells is not None:
            return min(self._config.num_cells, math.ceil(num_samples / self.length))
        num_frames = min(self._extractor.num_frames(num_samples), self._extractor.max_length)
        return self._config.num_cells_of(num_frames)


def model_cells(model: PreTrainedModel, feature_extractor: FeatureExtractor) -> ModelCells | None:
    """Return the cells of a model; None if it labels what it hears as a whole."""
    if not isinstance(model, SpectrogramForAudioFrameClassification):
        return None
    return ModelCells(model, feature_extractor)


def check_frame_shift(config: Any, feature_extractor: Any) -> None:
    """Raise a ValueError if a config has another distance between frames than a feature extractor of ours."""
    frame_shift_s = feature_extractor.frame_shift / feature_extractor.sampling_rate
    if not math.isclose(config.frame_shift_s, frame_shift_s, rel_tol=1e-6):
        raise ValueError(
            f"The model's config has frame_shift_s={config.frame_shift_s}, but its feature extractor makes a frame "
            f"every {frame_shift_s} s, so that the cells would have wrong times; load the model with "
            f"frame_shift_s={frame_shift_s}."
        )


class CellMean:
    """Scores of the cells of a recording, from windows that come in the order of their starts.

    A recording has a cell for each hop of the windows; or, with a model that has cells, those of its first window,
    which go on at the same distance. The first one begins and the last one ends with the recording. A cell's score is
    the mean over the windows that cover its middle: of each, its score, or that of its cell whose middle is nearest.

    Args:
        hop: Distance between windows, in samples.
        sampling_rate: In Hz.
        cells: Those of the model; None if it labels windows as a whole.
    """

    def __init__(self, hop: int, sampling_rate: int, cells: ModelCells | None = None):
        self._length: float = hop if cells is None else cells.length
        self._first_middle = hop / 2 if cells is None else cells.first_middle
        self._has_cells = cells is not None
        self._rate = sampling_rate
        self._begin()

    def _begin(self) -> None:
        self._first = 0  # cell that is not settled
        self._windows: list[tuple[int, int, np.ndarray]] = []  # start, end, scores (K, C)

    @property
    def cell_s(self) -> float:
        """Usual length of a cell in seconds."""
        return self._length / self._rate

    def push(self, starts: Sequence[int], length: int, scores: np.ndarray) -> CellScores:
        """Take the next windows, and return the cells that no later window covers.

        Args:
            starts: First samples of the windows, ascending.
            length: Samples of each window.
            scores: Scores of their cells, shape (n, K, C); K = 1 where the model labels windows as a whole.
        """
        self._windows += [(start, start + length, of_window) for start, of_window in zip(starts, scores, strict=True)]
        edges = self._edges()
        # A later window begins behind the start of this one
        num_settled = int(np.searchsorted(_middles(edges[:-1]), self._windows[-1][0], side="right"))
        result = self._means(edges[: num_settled + 1])
        self._first += num_settled
        left = edges[num_settled : num_settled + 2].mean()
        self._windows = [window for window in self._windows if window[1] > left]
        return result

    def whole(self, starts: Sequence[int], length: int, scores: np.ndarray) -> CellScores:
        """Return all cells of a recording from all of its windows; see `push`."""
        first, last = self.push(starts, length, scores), self.flush()
        return CellScores(np.concatenate((first.scores, last.scores)), np.append(first.edges_s, last.edges_s[1:]))

    def flush(self) -> CellScores:
        """End the recording: return the cells that are left, and begin a new one."""
        result = self._means(self._edges())
        self._begin()
        return result

    def _edges(self) -> np.ndarray:
        """Edges of the cells from the first that is not settled, if the recording ends with the last window."""
        if not self._windows:
            return np.zeros(0)
        start, end, scores = self._windows[-1]
        first_edge = self._first_middle + self._length / 2
        number = max(0, math.floor((end - 1 - first_edge) / self._length) + 1) + 1
        if self._has_cells:
            number = min(number, round(start / self._length) + len(scores))
        edges = first_edge + self._length * np.arange(self._first - 1, number)
        if self._first == 0:
            edges[0] = 0.0
        edges[-1] = end
        return edges

    def _means(self, edges: np.ndarray) -> CellScores:
        num_labels = self._windows[0][2].shape[-1] if self._windows else 0
        middles = _middles(edges)
        sums, counts = np.zeros((len(middles), num_labels)), np.zeros((len(middles), 1))
        extents = np.searchsorted(middles, [window[:2] for window in self._windows]).tolist()
        for (first, last), (start, _, scores) in zip(extents, self._windows, strict=True):
            if first == last:
                continue
            if len(scores) > 1:
                places = np.rint((middles[first:last] - start - self._first_middle) / self._length).astype(int)
                scores = scores[places.clip(0, len(scores) - 1)]
            sums[first:last] += scores
            counts[first:last] += 1
        return CellScores((sums / counts).astype(np.float32), edges / self._rate)


def _middles(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2
