"""The spectrogram of a recording, as a model receives it. Needs the extra `plot` (matplotlib)."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

from .style import clip_of, draw_spectrogram, frame_edges, in_words, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DECIBELS_PER_NEPER = 10 / math.log(10)
DYNAMIC_RANGE_DB = 80.0
# More columns than a figure has pixels cannot be seen
MAX_COLUMNS = 2000
LEVELS = (-DYNAMIC_RANGE_DB, 0.0)


def plot_spectrogram(
    feature_extractor: SpectrogramFeatureExtractor,
    input_values: Tensor,
    *,
    start_s: float = 0.0,
    title: str | None = None,
) -> "Figure":
    """Plot a spectrogram over seconds and kHz, in decibels relative to its loudest point, down to -80 dB.

    If there are more than 2000 frames, neighbours are joined, and their energies averaged.

    Args:
        feature_extractor: What made the spectrogram.
        input_values: Log-mel spectrogram of one clip of any length, shape (T, M) or (1, T, M). That of a whole
            recording is made with `padding=False, truncation=False`.
        start_s: Time of the start of the clip in the recording.
        title: Above the figure; what it shows if None.

    Returns:
        A matplotlib figure; `figure.savefig("spectrogram.png")` writes it.
    """
    clip = clip_of(feature_extractor, input_values)
    log_energy = energies(feature_extractor, clip)
    num_joined = -(-len(clip) // MAX_COLUMNS)
    level_db = decibels(join_frames(log_energy, num_joined))
    figure = new_figure(9, 3.6)
    axes = figure.subplots()
    image = draw_spectrogram(axes, feature_extractor, level_db, start_s=start_s, num_frames=len(clip), limits=LEVELS)
    left, right = frame_edges(feature_extractor, len(clip))
    num_mel_bins = feature_extractor.num_mel_bins
    set_title(axes, title or f"Log-mel spectrogram of {in_words(right - left)}, {num_mel_bins} mel bins")
    figure.colorbar(image, ax=axes, label="energy in dB, relative\nto the loudest", extend="min", pad=0.01)
    return figure


def energies(feature_extractor: SpectrogramFeatureExtractor, input_values: Tensor) -> Tensor:
    """Undo the normalisation of model inputs (T, M): natural logarithms of energies, up to a constant."""
    return input_values * (2 * feature_extractor.std) if feature_extractor.do_normalize else input_values


def decibels(log_energy: Tensor) -> Tensor:
    """Natural logarithms of energies, of any shape -> decibels relative to the largest one; NaN (no sound) stays."""
    return (log_energy - log_energy[~log_energy.isnan()].max()) * DECIBELS_PER_NEPER


def join_frames(log_energy: Tensor, num_joined: int) -> Tensor:
    """Average the energies of groups of neighbouring frames; the last group may be smaller.

    Args:
        log_energy: Natural logarithms, shape (T, M).
        num_joined: Frames per group, n.

    Returns:
        Natural logarithms of the means, shape (ceil(T / n), M).
    """
    if num_joined == 1:
        return log_energy
    return torch.stack([part.logsumexp(dim=0) - math.log(len(part)) for part in log_energy.split(num_joined)])
