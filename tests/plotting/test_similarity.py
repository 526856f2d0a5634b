"""Similarities, and their order."""

import numpy as np
import pytest
import torch

from hf_ast.plotting import cosine_similarity, plot_similarity
from hf_ast.plotting.similarity import similarity_order


def test_cosines_by_hand() -> None:
    found = cosine_similarity(torch.tensor([[2.0, 0.0], [3.0, 3.0], [0.0, -1.0]]))
    half = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[1, half, 0], [half, 1, -half], [0, -half, 1]]))


def test_similar_recordings_are_side_by_side() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(24) % 4
    embeddings = torch.randn(4, 32, generator=generator)[groups] + 0.3 * torch.randn(24, 32, generator=generator)
    order = similarity_order(cosine_similarity(embeddings))
    assert sorted(order.tolist()) == list(range(24))
    assert groups[order].diff().count_nonzero() == 3
    figure = plot_similarity(embeddings, [f"{index}.wav" for index in range(24)])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{index}.wav" for index in order.tolist()]
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_array_equal(shown, cosine_similarity(embeddings)[order][:, order])
    kept = plot_similarity(embeddings, [f"{index}.wav" for index in range(24)], keep_order=True).axes[0]
    np.testing.assert_array_equal(np.asarray(kept.images[0].get_array()), cosine_similarity(embeddings))


def test_of_many_recordings_every_nth_is_named_as_it_is() -> None:
    names = [f"$a_{index}$" for index in range(400)]
    axes = plot_similarity(torch.randn(400, 8), names, keep_order=True).axes[0]
    labels = axes.get_yticklabels()
    every = -(-400 // len(labels))
    assert every > 1
    assert [label.get_text() for label in labels] == names[::every]
    assert not labels[0].get_parse_math()
    assert f"one in {every} is named" in axes.get_title(loc="left")
    assert len(plot_similarity(torch.ones(1, 8), ["a"]).axes[0].get_yticklabels()) == 1


def test_what_has_no_direction() -> None:
    with pytest.raises(ValueError, match=r"zero or not finite: \[1, 2\]"):
        plot_similarity(torch.tensor([[1.0], [0.0], [torch.nan]]), ["a", "b", "c"])
    with pytest.raises(ValueError, match="a row for each of the 2 names"):
        plot_similarity(torch.ones(3, 4), ["a", "b"])
