import numpy as np
import pytest

from hf_ast.plotting import plot_average_precision


def test_bars_are_sorted_and_classes_without_a_recording_are_named_in_the_title() -> None:
    figure = plot_average_precision(np.array([0.5, np.nan, 0.9, 0.1]), np.array([4, 0, 2, 7]), ["a", "b", "c", "d"])
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.5, 0.9]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["d (7)", "a (4)", "c (2)"]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(0.5)
    title = "Mean average precision 0.500\nleft out, because no recording has them: 1 of 4 classes"
    assert axes.get_title(loc="left") == title


def test_of_many_classes_the_best_and_the_worst_are_shown() -> None:
    values = np.linspace(0, 1, 101)
    axes = plot_average_precision(values, np.ones(101, dtype=int), list(map(str, range(101)))).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [*values[:30], *values[-30:]]
    assert "the 30 best and the 30 worst of 101 classes" in axes.get_title(loc="left")


def test_nothing_to_plot() -> None:
    with pytest.raises(ValueError, match="NaN for every class"):
        plot_average_precision(np.array([np.nan]), np.array([0]), ["a"])
    with pytest.raises(ValueError, match="one value for each of the 2 labels"):
        plot_average_precision(np.array([0.5]), np.array([1]), ["a", "b"])
