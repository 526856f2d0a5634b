"""Figures and the player as HTML, with a line that shows in each figure what is being played."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110

# The pictures scroll sideways on a phone, where their text would otherwise be too small to read
CSS = """
.hf-ast-scroll {overflow-x: auto; margin-bottom: 8px; border-radius: 6px; background: white}
.hf-ast-picture {position: relative; min-width: 640px}
.hf-ast-picture img {display: block; width: 100%; height: auto; margin: 0}
.hf-ast-picture[data-start] {cursor: pointer}
.hf-ast-now {position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #D55E00;
             pointer-events: none}
.hf-ast-player {width: 100%; margin-bottom: 8px}
"""

# `element` is the component. Events of players do not bubble, but can be captured on their way down
PLAYBACK = """
const player = () => element.querySelector('audio');
function showTime() {
  for (const picture of element.querySelectorAll('.hf-ast-picture[data-start]')) {
    const {left, right, start, end} = picture.dataset;
    const share = (player().currentTime - start) / (end - start);
    const line = picture.querySelector('.hf-ast-now');
    line.style.left = `${100 * (+left + Math.min(Math.max(share, 0), 1) * (right - left))}%`;
    line.hidden = false;
  }
  if (!player().paused) requestAnimationFrame(showTime);
}
for (const name of ['play', 'seeked', 'timeupdate']) {
  element.addEventListener(name, () => { if (player().paused || name === 'play') showTime(); }, true);
}
element.addEventListener('click', (click) => {
  const picture = click.target.closest('.hf-ast-picture[data-start]');
  if (!picture || !player()) return;
  const {left, right, start, end} = picture.dataset;
  const box = picture.getBoundingClientRect();
  const share = ((click.clientX - box.left) / box.width - left) / (right - left);
  player().currentTime = Math.max(0, +start + Math.min(Math.max(share, 0), 1) * (end - start));
});
"""


class TimeAxis(NamedTuple):
    """A horizontal axis of seconds: its ends as fractions of the figure's width, and the times there."""

    left: float
    right: float
    start_s: float
    end_s: float


def time_axis(figure: "Figure") -> TimeAxis:
    """Find the time axis of a figure's first axes, at its place once the figure is drawn."""
    figure.draw_without_rendering()
    axes = figure.axes[0]
    box = axes.get_position()
    return TimeAxis(box.x0, box.x1, *axes.get_xlim())


def picture(figure: "Figure", text: str, axis: TimeAxis | None = None) -> str:
    """Return a figure as HTML; with a time axis, it follows the player.

    Args:
        figure: A matplotlib figure.
        text: What it shows, for people who cannot see it.
        axis: Time axis of the recording that is played.
    """
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DOTS_PER_INCH)
    source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    image = f'<img src="{source}" alt="{escape(text)}">'
    if axis is None:
        return f'<div class="hf-ast-scroll"><div class="hf-ast-picture">{image}</div></div>'
    place = (
        f'data-left="{axis.left:.5f}" data-right="{axis.right:.5f}" '
        f'data-start="{axis.start_s:.5f}" data-end="{axis.end_s:.5f}"'
    )
    line = '<div class="hf-ast-now" hidden></div>'
    return f'<div class="hf-ast-scroll"><div class="hf-ast-picture" {place}>{image}{line}</div></div>'


def player(path: str) -> str:
    """Return a player of a file that Gradio holds, as HTML."""
    return f'<audio class="hf-ast-player" controls preload="auto" src="gradio_api/file={escape(quote(path))}"></audio>'
