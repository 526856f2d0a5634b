"""How a training went, from the log of `Trainer`. Needs the extra `plot` (matplotlib)."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .style import CATEGORIES, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATE = "trainer_state.json"
# What `Trainer` logs besides the quantities to plot
NO_CURVES = ("step", "epoch", "total_flos", "runtime", "per_second", "preparation_time", "rating", "train_loss")
SETTINGS = ("learning_rate", "grad_norm")
NO_SHARES = (*SETTINGS, "d_prime")  # though they may lie between 0 and 1
PANEL_ORDER = {"loss": 0, "share": 1}  # before the others
MARKERS = "os^DvPX"  # to tell lines apart in grey
MAX_MARKERS = 60  # of a line; more points are a line without markers
AXIS_LABELS = {"loss": "loss", "share": "score", "learning_rate": "learning rate", "grad_norm": "norm of the gradient"}


class Curve(NamedTuple):
    """Values of a quantity at steps of the optimiser."""

    steps: list[int]
    values: list[float]


class LearningCurves(NamedTuple):
    """A training's log.

    Attributes:
        training, validation: Curves by the name of their quantity.
        num_steps: Steps of the optimiser so far.
        num_epochs: Epochs so far.
        best_step: Step of the checkpoint that was rated best; None if none was rated.
    """

    training: dict[str, Curve]
    validation: dict[str, Curve]
    num_steps: int
    num_epochs: float
    best_step: int | None


def plot_learning_curves(curves: LearningCurves, *, title: str | None = None) -> "Figure":
    """Plot all quantities that were logged in a training over its steps.

    Losses share a panel, and so do metrics between 0 and 1, such as accuracy; any other quantity has its own. Lines
    are solid for training and dashed for validation.

    Args:
        curves: See `learning_curves`.
        title: Above the figure; the length of the training if None.

    Returns:
        A matplotlib figure; `figure.savefig("learning_curves.png")` writes it.

    Raises:
        ValueError: Nothing was logged yet.
    """
    panels: dict[str, list[str]] = {}
    for name in dict.fromkeys([*curves.training, *curves.validation]):
        panels.setdefault(_panel_of(name, curves), []).append(name)
    if not panels:
        raise ValueError("curves is empty: the training has logged nothing yet.")
    ordered = sorted(panels, key=lambda panel: PANEL_ORDER.get(panel, len(PANEL_ORDER)))
    figure = new_figure(9, 0.6 + 2.2 * len(panels))
    column = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(column, ordered, strict=True):
        for number, name in enumerate(panels[panel]):
            colour, marker = CATEGORIES[number % len(CATEGORIES)], MARKERS[number % len(MARKERS)]
            for split, line, fill in (("training", "-", colour), ("validation", "--", "white")):
                curve = getattr(curves, split).get(name)
                if curve is not None:
                    axes.plot(
                        *curve,
                        line,
                        color=colour,
                        marker=marker if len(curve.steps) <= MAX_MARKERS else None,
                        markerfacecolor=fill,
                        markersize=5,
                        label=f"{name.replace('_', ' ')}, {split}",
                    )
        if curves.best_step is not None:
            axes.axvline(curves.best_step, color="0.5", linewidth=1, linestyle=":")
        axes.set_ylabel(AXIS_LABELS.get(panel, panel.replace("_", " ")))
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if panel not in SETTINGS:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    best = "" if curves.best_step is None else f"; dotted: the best checkpoint, step {curves.best_step}"
    column[-1].set_xlabel(f"steps of the optimiser{best}")
    num_gaps = sum(len(curve.values) - len(_finite(curve.values)) for part in curves[:2] for curve in part.values())
    remarks = [f"{num_gaps} values are not finite, and are gaps in the lines"] * (num_gaps > 0)
    set_title(column[0], title or f"Training of {curves.num_steps} steps, {curves.num_epochs:.3g} epochs", *remarks)
    return figure


def learning_curves(run: str | Path) -> LearningCurves:
    """Read the log of a fine-tuning or a pretraining, finished or not.

    Args:
        run: Its output folder, a folder of saved states, one saved state, or the file `trainer_state.json`. Of several
            states, the last one is read, which holds the log of all earlier steps.

    Raises:
        FileNotFoundError: There is no saved state.
    """
    state = json.loads(_state_file(Path(run)).read_text(encoding="utf-8"))
    training: dict[str, Curve] = {}
    validation: dict[str, Curve] = {}
    for entry in state["log_history"]:
        for key, value in entry.items():
            if any(key == name or key.endswith(f"_{name}") for name in NO_CURVES):
                continue
            is_validation = key.startswith("eval_")
            steps, values = (validation if is_validation else training).setdefault(
                key.removeprefix("eval_"), Curve([], [])
            )
            steps.append(entry["step"])
            values.append(float(value))
    return LearningCurves(
        training, validation, state["global_step"], state["epoch"] or 0.0, state.get("best_global_step")
    )


def _state_file(run: Path) -> Path:
    """Find the newest `trainer_state.json` of a run."""
    if run.is_file():
        return run
    patterns = (STATE, f"checkpoint-*/{STATE}", f"checkpoints/checkpoint-*/{STATE}")
    found = [file for pattern in patterns for file in run.glob(pattern)]
    if not found:
        raise FileNotFoundError(
            f"run={str(run)!r} holds no saved state ({STATE}); give the output folder of `hf-ast finetune` or "
            "`hf-ast pretrain`, whose `checkpoints` has not been removed."
        )
    return max(found, key=lambda file: json.loads(file.read_text(encoding="utf-8"))["global_step"])


def _panel_of(name: str, curves: LearningCurves) -> str:
    """Name of the panel for a quantity."""
    if name == "loss" or name.endswith("_loss"):
        return "loss"
    values = [value for part in (curves.training, curves.validation) for value in part.get(name, Curve([], [])).values]
    is_score = name not in NO_SHARES and all(0 <= value <= 1 for value in _finite(values))
    return "share" if is_score else name


def _finite(values: list[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
