"""Attention rollout, and where it lands in the spectrogram."""

import numpy as np
import pytest
import torch

from hf_ast import HfASTFeatureExtractor, SSASTForAudioClassification
from hf_ast.plotting import attention_rollout, patch_attention, plot_attention
from hf_ast.plotting.attention import enclosing_level, over_spectrogram
from tests.support.tiny import (
    passt_extractor,
    randomize,
    spectrograms,
    tiny_model,
    tiny_passt,
    tiny_ssast,
    tiny_ssast_config,
)


def test_two_layers_by_hand() -> None:
    """Two heads whose mean is [[1, 0], [1/2, 1/2]], below a layer in which the tokens look at each other."""
    first = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]])
    second = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]] * 2])
    # (A + 1) / 2 is [[1, 0], [1/4, 3/4]] and [[1/2, 1/2], [1/2, 1/2]]
    expected = torch.tensor([[[0.625, 0.375], [0.625, 0.375]]])
    torch.testing.assert_close(attention_rollout([first, second]), expected)
    start = torch.tensor([[[0.25, 0.75]]])
    torch.testing.assert_close(attention_rollout([first, second], start), expected[:, :1])
    with pytest.raises(ValueError, match="attentions is empty"):
        attention_rollout([])


def test_rows_sum_up_to_one_and_following_one_token_is_its_row() -> None:
    generator = torch.Generator().manual_seed(0)
    attentions = [torch.randn(2, 3, 7, 7, generator=generator).softmax(-1) for _ in range(4)]
    rollout = attention_rollout(attentions)
    torch.testing.assert_close(rollout.sum(-1), torch.ones(2, 7))
    start = torch.eye(7)[3].expand(2, 1, 7)
    torch.testing.assert_close(attention_rollout(attentions, start), rollout[:, 3:4])


def tiny_classifiers(pooling: str) -> list[torch.nn.Module]:
    ssast = SSASTForAudioClassification(tiny_ssast_config(pooling=pooling, num_labels=5))
    return [tiny_model(pooling=pooling), tiny_passt(pooling=pooling), randomize(ssast)]


@pytest.mark.parametrize("pooling", ["prefix", "cls", "mean"])
def test_the_attention_of_every_family_starts_where_its_output_is_pooled(pooling: str) -> None:
    for model in tiny_classifiers(pooling):
        clip = spectrograms(1, 46)[0]
        model.train()
        found = patch_attention(model, clip)
        assert model.training
        assert model.config._attn_implementation == "sdpa"
        model.eval()
        model.set_attn_implementation("eager")
        with torch.no_grad():
            output = model(clip[None], output_attentions=True)
        whole = attention_rollout(output.attentions)[0]
        num_prefix = model.base_model.embeddings.num_prefix_tokens
        rows = {"prefix": whole[:num_prefix], "cls": whole[:1], "mean": whole[num_prefix:]}[pooling]
        expected = rows.mean(0)[num_prefix:]
        torch.testing.assert_close(found.shares.flatten(), expected / expected.sum())
        assert found.shares.shape[0] == model.base_model.embeddings.num_rows
        best = output.logits[0].softmax(-1).max(0)
        assert found.answer == f'"{model.config.id2label[int(best.indices)]}" ({best.values:.2f})'


def test_a_patch_that_gets_all_attention_lights_up_at_its_place() -> None:
    shares = torch.zeros(5, 12)
    shares[2, 7] = 1
    # Patches of 8 mel bins and 6 frames, every 6 bins and 4 frames: bins 12 to 19, frames 28 to 33
    relative = over_spectrogram(shares, (8, 6), (6, 4), (34, 53))
    lit = (relative > 0).nonzero()
    assert (lit.min(0).values.tolist(), lit.max(0).values.tolist()) == ([12, 28], [19, 33])
    assert relative[14:18, 30:32].unique().tolist() == [60.0]  # here no other patch lies
    assert relative[12:14, 28:30].unique().tolist() == [15.0]  # and here four do
    assert relative[32:].isnan().all()
    assert relative[:, 50:].isnan().all()
    assert not relative[:32, :50].isnan().any()
    torch.testing.assert_close(
        over_spectrogram(torch.full((5, 12), 1 / 60), (8, 6), (6, 4), (32, 50)), torch.ones(32, 50)
    )


def test_the_outline_holds_a_quarter() -> None:
    values = torch.tensor([[0.1, 0.2, torch.nan], [0.3, 0.4, 0.0]])
    assert enclosing_level(values, 0.25) == pytest.approx(0.4)
    assert enclosing_level(values, 0.5) == pytest.approx(0.3)
    assert enclosing_level(values, 1.0) == pytest.approx(0.1)


def test_the_figure_shows_the_attention_on_seconds_and_frequencies() -> None:
    model, clip = tiny_passt(), spectrograms(1, 50)
    extractor = passt_extractor()
    figure = plot_attention(model, extractor, clip, start_s=2.0, duration_s=0.3)
    upper, lower = figure.axes[:2]
    shares = patch_attention(model, clip[0]).shares
    expected = over_spectrogram(shares, (8, 6), (6, 4), (32, 50))
    np.testing.assert_array_equal(np.ma.filled(lower.images[0].get_array(), np.nan), expected.numpy())
    # Frames of 10 ms, the first one centred on the start
    assert lower.images[0].get_extent() == pytest.approx([1.995, 2.495, -0.5, 31.5])
    assert (lower.get_xlim(), lower.get_ylim()) == (pytest.approx((1.995, 2.495)), (-0.5, 31.5))
    assert [line.get_xdata()[0] for line in lower.lines] == [2.3, 2.3]
    (padding,) = upper.patches
    assert padding.get_extents().transformed(upper.transData.inverted()).intervalx == pytest.approx([2.3, 2.495])
    assert "before padding" in lower.get_xlabel()
    assert "from the mean of the prefix tokens" in lower.get_title(loc="left")
    assert upper.get_title(loc="left").startswith('Where the model looks when it answers "LABEL_')


def test_padding_is_grey_and_does_not_count_as_the_loudest_point() -> None:
    model, clip = tiny_passt(), spectrograms(1, 50)
    clip[:, 35:] = 100.0  # padding, louder than the recording
    figure = plot_attention(model, passt_extractor(), clip, duration_s=0.3)
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)  # (mel bins, frames)
    # Frame 30 is centred on 0.3 s, the end of the recording
    np.testing.assert_array_equal(np.isnan(shown).all(axis=0), np.arange(50) > 30)
    assert np.nanmax(shown) == 0.0
    assert not np.isnan(shown[:, :31]).any()


def test_a_model_without_classifier_has_no_answer() -> None:
    model = tiny_ssast()
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    assert patch_attention(model, spectrograms(1, 50)[0]).answer is None
    title = plot_attention(model, extractor, spectrograms(1, 50), duration_s=9.0).axes[0].get_title(loc="left")
    assert title.splitlines()[0] == "Where the model looks"
    with pytest.raises(ValueError, match=r"input_values has shape \(50, 16\)"):
        plot_attention(model, extractor, torch.zeros(50, 16))
