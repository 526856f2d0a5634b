import numpy as np
import pytest
import torch

from hf_ast import HfASTFeatureExtractor
from hf_ast.models.modules_objectives import patch_values
from hf_ast.plotting.reconstruction import fill_patches, plot_reconstruction
from tests.support.tiny import spectrograms, tiny_ssast

EXTRACTOR = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)


def test_filling_in_what_was_cut_out_changes_nothing() -> None:
    clip = spectrograms(1, 48)
    indices = torch.tensor([3, 31, 0, -1])
    values = patch_values(clip, indices[None].clamp(min=0), 32, (8, 6))[0]
    filled = fill_patches(clip[0].T, indices, values, (8, 6))
    torch.testing.assert_close(filled, clip[0].T, atol=0, rtol=0)
    changed = fill_patches(clip[0].T, indices, values + 1, (8, 6)) - clip[0].T
    assert changed.count_nonzero() == 3 * 48
    torch.testing.assert_close(changed[:8, 18:24], torch.ones(8, 6))


def test_the_figure_shows_the_clip_the_mask_and_the_reconstruction() -> None:
    model = tiny_ssast()
    clip = spectrograms(1, 50)[0]
    masked = torch.tensor([3, 31, 0])
    figure = plot_reconstruction(model, EXTRACTOR, clip, mask_indices=masked)
    original, seen, rebuilt = (np.asarray(axis.images[0].get_array().filled(np.nan)) for axis in figure.axes[:3])
    np.testing.assert_array_equal(original, clip[:48].T)
    assert np.isnan(seen).sum() == 3 * 48
    assert np.isnan(seen[24:, 42:]).all()
    with torch.no_grad():
        output = model(clip[None], mask_indices=masked[None])
    np.testing.assert_array_equal(rebuilt[24:, 42:], output.reconstructions[0, 1].view(8, 6))
    same = ~np.isnan(seen)
    np.testing.assert_array_equal(rebuilt[same], original[same])
    assert f"{output.reconstruction_loss.item():.3f}" in figure.axes[2].get_title(loc="left")


def test_a_model_in_training_is_plotted_without_dropout_and_keeps_its_modes() -> None:
    model = tiny_ssast(hidden_dropout_prob=0.5)
    clip, masked = spectrograms(1, 50)[0], torch.tensor([3, 31, 0])
    expected = plot_reconstruction(model, EXTRACTOR, clip, mask_indices=masked).axes[2].get_title(loc="left")
    model.train()
    model.backbone.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    assert plot_reconstruction(model, EXTRACTOR, clip, mask_indices=masked).axes[2].get_title(loc="left") == expected
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_nothing_to_plot_without_the_objective() -> None:
    with pytest.raises(ValueError, match="no reconstruction objective"):
        plot_reconstruction(tiny_ssast(reconstruction_loss_weight=0), EXTRACTOR, spectrograms(1, 50))
