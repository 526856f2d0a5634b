import numpy as np
import pytest

from hf_ast.plotting import confusion_counts, plot_confusion
from hf_ast.plotting.confusion import classes_with_most_errors, confusion_from_rows


def test_counts_and_shares_of_rows() -> None:
    counts = confusion_counts(np.array([0, 0, 0, 2, 2]), np.array([0, 1, 0, 2, 0]), 3)
    np.testing.assert_array_equal(counts, [[2, 1, 0], [0, 0, 0], [1, 0, 1]])
    axes = plot_confusion(counts, ["a", "größer b", "c"]).axes[0]
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown, [[2 / 3, 1 / 3, 0], [0, 0, 0], [0.5, 0, 0.5]])
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "2"), ((1, 0), "1"), ((0, 2), "1"), ((2, 2), "1"),
    }  # fmt: skip
    assert axes.get_title(loc="left") == "3 of 5 recordings right"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "größer b", "c"]


def test_shades_grow_darker_in_grey_as_well() -> None:
    image = plot_confusion(np.eye(3), ["a", "b", "c"]).axes[0].images[0]
    colours = image.cmap(np.linspace(0, 1, 11))[:, :3]
    luminance = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0).all()


def test_counts_of_other_classes() -> None:
    with pytest.raises(ValueError, match=r"counts has shape \(2, 2\), but there are 3 labels"):
        plot_confusion(np.eye(2), ["a", "b", "c"])


def test_of_many_classes_those_with_the_most_errors_are_shown() -> None:
    counts = 5 * np.eye(130, dtype=int)
    counts[7, 120] = 4
    counts[3, 5] = 2
    shown = classes_with_most_errors(counts, 4)
    assert shown.tolist() == [3, 5, 7, 120]
    axes = plot_confusion(counts, [f"class {index}" for index in range(130)]).axes[0]
    image = np.asarray(axes.images[0].get_array())
    assert image.shape == (100, 100)
    assert image[7, -1] == pytest.approx(4 / 9)  # of all recordings of the class
    title = axes.get_title(loc="left")
    assert title == "650 of 656 recordings right\nthe 100 of 130 classes with the most errors"


def test_the_matrix_of_an_evaluation() -> None:
    rows = [
        {"true": "c", "predicted": "c", "num_recordings": 2},
        {"true": "c", "predicted": "a", "num_recordings": 1},
    ]
    labels, counts = confusion_from_rows(rows, ["a", "b", "c"])
    assert labels == ["a", "c"]
    np.testing.assert_array_equal(counts, [[0, 0], [1, 2]])
