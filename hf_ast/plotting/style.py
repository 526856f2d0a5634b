"""What the figures have in common: colours, axes in seconds and kHz, names that fit. Needs the extra `plot`.

Nothing here changes matplotlib's settings or its backend: a `Figure` by itself belongs to no window.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Okabe and Ito's colours for categories, which colour-blind eyes tell apart (https://jfly.uni-koeln.de/color/), in an
# order in which neighbours differ in grey as well
BLACK, ORANGE, BLUE, SKY_BLUE, VERMILION, GREEN, PURPLE = (
    "#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7",
)  # fmt: skip
CATEGORIES = (BLUE, ORANGE, BLACK, SKY_BLUE, VERMILION, GREEN, PURPLE)
# Colour maps whose lightness rises or falls steadily, so that they read the same in grey: for sound, for shares of
# which many are zero (white), and for other values
SOUND, SHARE, VALUE = "magma", "Blues", "cividis"
MISSING = "0.6"  # a medium grey, where a spectrogram is hidden from the model
FREQUENCY_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)
TIME_STEPS_S = (1, 2, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
# Later times are minutes and hours instead of seconds, where the axis is long enough for whole seconds
LONG_S, SHORTEST_CLOCK_S = 180, 10
LONGEST_NAME = 40  # characters
INCHES_PER_POINT = 1 / 72
LARGEST_FONT, SMALLEST_FONT = 10.0, 5.0


def new_figure(
    width: float, height: float, *, layout: Literal["constrained", "compressed"] = "constrained"
) -> "Figure":
    """Return an empty figure of that size in inches, whose parts do not overlap.

    Args:
        width, height: In inches.
        layout: "compressed" for axes that must be square.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Figures need matplotlib: pip install "hf-ast[plot]"') from error
    return Figure(figsize=(width, height), layout=layout)


def set_title(axes: "Axes", *lines: str) -> None:
    """Write a title above the left end of the axes, in lines that are wrapped at the width of the figure."""
    columns = max(30, int(axes.figure.bbox.width / axes.figure.dpi * 9.5))
    wrapped = [part for line in lines for part in textwrap.wrap(line, columns) or [""]]
    axes.set_title("\n".join(wrapped), loc="left", fontsize="medium", parse_math=False)


def clip_of(feature_extractor: SpectrogramFeatureExtractor, input_values: Tensor) -> Tensor:
    """Return the spectrogram of one clip, given as (T, M) or (1, T, M), in float32 on the CPU, shape (T, M).

    Raises:
        ValueError: It has another shape, or another number of mel bins than the feature extractor.
    """
    clip = input_values.squeeze(0) if input_values.ndim == 3 else input_values
    if clip.ndim != 2 or clip.shape[1] != feature_extractor.num_mel_bins:
        raise ValueError(
            f"input_values has shape {tuple(input_values.shape)}, but must be one spectrogram of shape (frames, "
            f"{feature_extractor.num_mel_bins} mel bins), as the feature extractor makes it."
        )
    return clip.detach().float().cpu()


def draw_spectrogram(
    axes: "Axes",
    feature_extractor: SpectrogramFeatureExtractor,
    spectrogram: Tensor,
    *,
    start_s: float = 0.0,
    num_frames: int | None = None,
    colours: str = SOUND,
    limits: tuple[float | None, float | None] = (None, None),
) -> "AxesImage":
    """Draw values of mel bins and frames on axes in seconds and kHz; NaN is grey.

    A frame is drawn around its centre, as wide as the frame shift. The vertical axis is linear in mel bins, and its
    ticks are at the mel bins whose filters have these centre frequencies.

    Args:
        axes: Where to draw.
        feature_extractor: What made the spectrogram.
        spectrogram: Values, shape (T, M).
        start_s: Time of the start of the clip in the recording.
        num_frames: Frames that the columns stand for, if several were joined; T if None.
        colours: Name of the colour map.
        limits: Values at the ends of the colour map; the smallest and the largest value where None.
    """
    from matplotlib import colormaps

    num_columns, num_mel_bins = spectrogram.shape
    left, right = frame_edges(feature_extractor, num_columns if num_frames is None else num_frames, start_s)
    image = axes.imshow(
        spectrogram.T.numpy(),
        origin="lower",
        aspect="auto",
        extent=(left, right, -0.5, num_mel_bins - 0.5),
        cmap=colormaps[colours].with_extremes(bad=MISSING),
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    label_frequencies(axes, feature_extractor)
    label_times(axes, left, right)
    return image


def frame_edges(
    feature_extractor: SpectrogramFeatureExtractor, num_frames: int, start_s: float = 0.0
) -> tuple[float, float]:
    """Left edge of the first and right edge of the last of consecutive frames, each one frame shift wide, in s."""
    shift_s = feature_extractor.frame_shift / feature_extractor.sampling_rate
    left = start_s + feature_extractor.first_frame_s - shift_s / 2
    return left, left + num_frames * shift_s


def label_frequencies(axes: "Axes", feature_extractor: SpectrogramFeatureExtractor) -> None:
    """Label a vertical axis that counts mel bins with their frequencies."""
    centres_hz = feature_extractor.mel_centres_hz.numpy()
    ticks = [hz for hz in FREQUENCY_TICKS_HZ if centres_hz[0] <= hz <= centres_hz[-1]]
    axes.set_yticks(np.interp(ticks, centres_hz, np.arange(len(centres_hz))), [f"{hz / 1000:g}" for hz in ticks])
    axes.set_ylabel("frequency in kHz")


def label_times(axes: "Axes", start_s: float, end_s: float) -> None:
    """Label a horizontal axis that counts seconds from `start_s` to `end_s`; long times are minutes and hours."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    axes.set_xlim(start_s, end_s)
    length_s = end_s - start_s
    if end_s < LONG_S or length_s < SHORTEST_CLOCK_S:
        axes.set_xlabel("time in s")
        return
    step_s = next((step for step in TIME_STEPS_S if length_s / step <= 10), TIME_STEPS_S[-1])
    with_hours = round(end_s) >= 3600
    axes.xaxis.set_major_locator(MultipleLocator(step_s))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value, with_hours=with_hours)))
    axes.set_xlabel("time in h:min:s" if with_hours else "time in min:s")


def clock(time_s: float, *, with_hours: bool = False) -> str:
    """Write a time as min:s, or h:min:s."""
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if with_hours else f"{minutes}:{seconds:02d}"


def in_words(duration_s: float) -> str:
    """Write the length of a recording for a title."""
    return f"{duration_s:.3g} s" if duration_s < LONG_S else clock(duration_s, with_hours=round(duration_s) >= 3600)


def short_name(name: str, longest: int = LONGEST_NAME) -> str:
    """Cut the middle out of a long name; both ends often matter."""
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]} … {name[-(longest // 2 - 2) :]}"


def square_figure(names: Sequence[str], side: float) -> "Figure":
    """Return an empty figure for a matrix of that side in inches with names on both axes, a title and a colour bar."""
    longest = max(len(short_name(name)) for name in names)
    font = float(np.clip(0.75 * side / len(names) / INCHES_PER_POINT, SMALLEST_FONT, LARGEST_FONT))
    margin = 0.4 + 0.6 * longest * font * INCHES_PER_POINT  # a letter is about 0.6 as wide as high
    return new_figure(side + margin + 1.0, side + margin + 0.5, layout="compressed")


def label_rows(axis: "Axis", names: Sequence[str], length: float, **settings: Any) -> int:
    """Label the positions 0, 1, ... of an axis with names, in letters that fit.

    Args:
        axis: `axes.xaxis` or `axes.yaxis`.
        names: One for each position.
        length: Approximate length of the axis, in inches.
        settings: Text properties of the labels.

    Returns:
        Names per label: 1 if all are there; n if only every n-th one has room.
    """
    font = 0.75 * length / max(1, len(names)) / INCHES_PER_POINT
    every = int(np.ceil(SMALLEST_FONT / font))
    font = float(np.clip(font, SMALLEST_FONT, LARGEST_FONT))
    shown = range(0, len(names), every)
    labels = [short_name(names[index]) for index in shown]
    axis.set_ticks(list(shown), labels, fontsize=font, parse_math=False, **settings)
    return every
