import numpy as np
import pytest

from hf_ast.plotting import confusion_counts, plot_confusion


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
