import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from hf_ast import load_classifier
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.models.modules_token_merging import merge_tokens
from hf_ast.models.modules_transformer import SpectrogramClassifier
from hf_ast.recipes.keywords.clips import LABELS, held_out_clips
from tests.support.tiny import spectrograms, tiny_config, tiny_model, tiny_ssast


def test_the_most_similar_pair_becomes_its_weighted_mean() -> None:
    patches = torch.eye(5)[None]
    patches[0, 3] = 2 * patches[0, 0] + 0.1 * patches[0, 4]  # close in direction to the first
    tokens = torch.cat((torch.full((1, 1, 5), 7.0), patches), dim=1)
    merged, sizes = merge_tokens(tokens, torch.tensor([[3.0, 1, 1, 1, 1]]), num_merged=1, num_prefix_tokens=1)
    mean = (3 * patches[0, 0] + patches[0, 3]) / 4
    torch.testing.assert_close(merged[0], torch.stack((tokens[0, 0], *patches[0, [2, 4, 1]], mean)))
    assert sizes.tolist() == [[1, 1, 1, 4]]


def test_directions_decide_and_not_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 12, 6, generator=generator)
    lengths = 10 ** torch.empty(2, 12, 1).uniform_(-1, 1, generator=generator)
    (_, expected), (_, found) = (
        merge_tokens(tokens, None, num_merged=3, num_prefix_tokens=0) for tokens in (patches, patches * lengths)
    )
    assert found.tolist() == expected.tolist()


def test_sums_are_kept_over_many_merges() -> None:
    """However tokens merge, the sum over patches and their number stay."""
    tokens, sizes = torch.randn(3, 2 + 41, 8, generator=torch.Generator().manual_seed(0)), None
    total = tokens[:, 2:].sum(1)
    for num_merged in (20, 10, 5, 2):
        tokens, sizes = merge_tokens(tokens, sizes, num_merged=num_merged, num_prefix_tokens=2)
    assert tokens.shape == (3, 2 + 4, 8)
    assert sizes.sum(1).tolist() == [41] * 3
    torch.testing.assert_close((tokens[:, 2:] * sizes[..., None]).sum(1), total, atol=1e-5, rtol=0)


@torch.no_grad()
def test_tokens_of_a_model_become_fewer() -> None:
    merging = tiny_model(pooling="mean", num_hidden_layers=3, token_merging=0.3)
    clips = spectrograms(2, 50)
    outputs = merging.backbone(clips)
    assert outputs.last_hidden_state.shape[1] == 2 + 60 - 18 - 12
    merging.config.token_merging = 0.0
    assert (outputs.pooler_output - merging.backbone(clips).pooler_output).abs().max() > 1e-3


@torch.no_grad()
def test_plain_torch_merges_as_transformers_does() -> None:
    model = tiny_model(token_merging=0.25)
    plain = SpectrogramClassifier.from_config(tiny_config(token_merging=0.25).to_dict()).eval()
    plain.load_state_dict(model.state_dict())
    clips = spectrograms(2, 50)
    torch.testing.assert_close(plain(clips), model(clips).logits, atol=1e-6, rtol=0)
    ones = torch.ones(2, 50, dtype=torch.long)
    torch.testing.assert_close(model(clips, attention_mask=ones).logits, model(clips).logits, atol=1e-6, rtol=0)


@torch.no_grad()
def test_padding_is_refused_and_training_keeps_all_tokens() -> None:
    model, clips = tiny_model(token_merging=0.25), spectrograms(2, 50)
    mask = (torch.arange(50) < torch.tensor([[50], [31]])).long()
    with pytest.raises(ValueError, match="needs clips without padding"):
        model(clips, attention_mask=mask)
    full = tiny_model().train()(clips).logits
    torch.testing.assert_close(model.train()(clips).logits, full, atol=0, rtol=0)
    ssast = tiny_ssast(token_merging=0.25)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    expected = tiny_ssast()(clips, generator=generators[0]).loss
    torch.testing.assert_close(ssast(clips, generator=generators[1]).loss, expected, atol=0, rtol=0)


def test_wrong_shares() -> None:
    with pytest.raises(StrictDataclassError, match=r"token_merging=0.6 must be in \[0, 0.5\]"):
        tiny_config(token_merging=0.6)


@torch.no_grad()
def test_keywords_stay_recognised() -> None:
    """A quarter per layer halves the tokens of the third layer, for at most one point."""
    model, extractor = load_classifier(EMBEDDED_MODEL)
    clips = held_out_clips(num_per_class=20)
    inputs = extractor([clip.waveform for clip in clips], sampling_rate=16000, return_tensors="pt")["input_values"]
    truth = torch.tensor([LABELS.index(clip.label) for clip in clips])

    def accuracy(model: nn.Module) -> float:
        return (model(inputs).logits.argmax(-1) == truth).float().mean().item()

    whole = accuracy(model)
    model.config.token_merging = 0.25
    assert accuracy(model) >= whole - 0.01
