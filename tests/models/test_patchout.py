"""Patchout in the torch-only core and in every transformers model."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from hf_ast import HfASTConfig, HfASTForAudioClassification, SpectrogramTransformer
from hf_ast.models.modules_patchout import Patchout, keep_one_real, patchout_indices, random_permutations

GRID = (3, 5)
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_length": 64,
    "num_mel_bins": 32,
    "patch_size": (8, 8),
    "frequency_stride": 8,
    "time_stride": 8,
}
PATCHOUT = {"time_patchout": 2, "frequency_patchout": 1, "unstructured_patchout": 3}
NUM_KEPT = (8 - 2) * (4 - 1) - 3


def recorded(*permutations):
    draws = iter(torch.tensor(permutation)[None] for permutation in permutations)
    return lambda size: next(draws)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def number_tokens(batch_size=1, num_prefix_tokens=2, num_patches=15):
    """Tokens that hold their own number."""
    numbers = torch.arange(num_prefix_tokens + num_patches, dtype=torch.float32)
    return numbers.expand(batch_size, -1)[..., None].clone()


def test_structured_patchout_keeps_the_crossings_of_kept_rows_and_columns():
    kept = patchout_indices(GRID, recorded([4, 0, 2, 1, 3], [2, 1, 0]), time_patchout=2, frequency_patchout=1)
    assert kept.tolist() == [[5, 7, 9, 10, 12, 14]]  # rows 1, 2 and columns 0, 2, 4


def test_unstructured_patchout_draws_among_the_patches_that_are_left():
    kept = patchout_indices(
        GRID, recorded([4, 0, 2, 1, 3], [5, 1, 0, 2, 3, 4, 6, 7, 8]), time_patchout=2, unstructured_patchout=6
    )
    assert kept.tolist() == [[0, 2, 9]]  # numbers 0, 1, 5 of [0, 2, 4, 5, 7, 9, 10, 12, 14]


def test_nothing_is_drawn_for_zeros():
    assert patchout_indices(GRID, recorded()).tolist() == [list(range(15))]


@pytest.mark.parametrize(
    ("numbers", "left"),
    [({"time_patchout": 5}, 5), ({"frequency_patchout": 4}, 3), ({"unstructured_patchout": 15}, 15)],
)
def test_dropping_everything_is_an_error(numbers, left):
    ((name, number),) = numbers.items()
    with pytest.raises(ValueError, match=f"{name}={number} must be between 0 and {left - 1}"):
        patchout_indices(GRID, random_permutations(), **numbers)


def test_every_patch_is_equally_likely_to_stay():
    generator = seeded()
    kept = patchout_indices(GRID, random_permutations(20000, generator), **{**PATCHOUT, "unstructured_patchout": 2})
    share = torch.bincount(kept.flatten(), minlength=15) / len(kept)
    torch.testing.assert_close(share, torch.full((15,), 4 / 15), atol=0.015, rtol=0)


def test_one_draw_per_batch_or_per_clip():
    for per_clip in (False, True):
        patchout = Patchout(2, 1, per_clip=per_clip).train()
        kept, mask, _ = patchout(number_tokens(8), None, GRID, seeded())
        assert kept.shape == (8, 2 + 6, 1)
        assert mask is None
        assert (kept[:, :2, 0] == torch.tensor([0.0, 1.0])).all()
        assert (kept == kept[:1]).all() != per_clip


def test_same_seed_same_patches():
    patchout = Patchout(2, 1, 2, per_clip=True).train()
    first, second, other = (patchout(number_tokens(4), None, GRID, seeded(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_tokens_and_their_mask_stay_together():
    mask = torch.rand(6, 17, generator=seeded()) < 0.5
    mask[:, :3] = True
    tokens = number_tokens(6)
    kept, kept_mask, _ = Patchout(1, 1, 2, per_clip=True).train()(tokens, mask, GRID, seeded())
    numbers = kept[..., 0].long()
    assert torch.equal(kept_mask, mask.gather(1, numbers))
    assert all(len(set(row)) == len(row) for row in numbers.tolist())


@pytest.mark.parametrize("per_clip", [False, True])
def test_a_short_clip_keeps_a_real_patch(per_clip):
    mask = torch.ones(64, 17, dtype=torch.bool)
    mask[1:, 2:] = False
    mask[1:, 2 + torch.tensor([0, 5, 10])] = True  # one real column
    patchout = Patchout(4, per_clip=per_clip).train()
    for seed in range(10):
        kept, kept_mask, _ = patchout(number_tokens(64), mask, GRID, seeded(seed))
        assert kept.shape[1] == 2 + 3
        assert kept_mask[:, 2:].any(dim=1).all()


@pytest.mark.parametrize("name", ["time_patchout", "frequency_patchout", "unstructured_patchout"])
def test_by_default_and_with_zeros_nothing_is_dropped(name):
    tokens = number_tokens(2)
    assert Patchout().train()(tokens, None, GRID)[0] is tokens
    assert Patchout(**{name: 0}).train()(tokens, None, GRID)[0] is tokens
    assert Patchout(**{name: 1}).eval()(tokens, None, GRID)[0] is tokens
    with pytest.raises(ValueError, match=f"{name}=-1 must not be negative"):
        Patchout(**{name: -1})
    with pytest.raises(ValueError, match=f"{name}=-1 must be between 0 and"):
        patchout_indices(GRID, random_permutations(), **{name: -1})


def test_by_default_one_draw_is_for_the_batch():
    kept = Patchout(2).train()(number_tokens(8), None, GRID, seeded())[0]
    assert (kept == kept[:1]).all()
    assert random_permutations()(7).shape == (1, 7)
    assert random_permutations(3)(7).sort(dim=1).values.tolist() == [list(range(7))] * 3


def test_given_permutations_are_used():
    patchout = Patchout(2, permute=recorded([4, 0, 2, 1, 3])).train()
    kept, mask, _ = patchout(number_tokens(2), None, GRID)
    assert kept[..., 0].tolist() == [[0, 1, *(2 + i for i in (0, 2, 4, 5, 7, 9, 10, 12, 14))]] * 2
    assert mask is None


def test_only_clips_without_a_real_patch_are_changed():
    mask = torch.tensor([[True, False, False], [False, False, True]])
    assert keep_one_real(torch.tensor([[0, 1]]), mask).tolist() == [[0, 1], [2, 1]]
    per_clip = torch.tensor([[1, 2], [0, 1]])
    assert keep_one_real(per_clip, mask).tolist() == [[0, 2], [2, 1]]


def test_the_real_patch_that_stays_is_drawn_by_the_generator():
    indices, mask = torch.zeros(1, 1, dtype=torch.long), (torch.arange(40) > 0).expand(6000, -1)
    first, again, other = (keep_one_real(indices, mask, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    share = torch.bincount(first.flatten(), minlength=40) / 6000
    # 6 standard errors of a share of 6,000 draws
    torch.testing.assert_close(share[1:], torch.full((39,), 1 / 39), atol=6 * (1 / 39 / 6000) ** 0.5, rtol=0)
    assert share[0] == 0


@pytest.mark.parametrize("pooling", ["prefix", "mean"])
@pytest.mark.parametrize("masked", [False, True])
def test_models_drop_tokens_in_training_and_none_in_eval(pooling, masked):
    spectrograms = torch.randn(2, 64, 32, generator=seeded())
    mask = torch.ones(2, 64, dtype=torch.long) if masked else None
    if masked:
        mask[1, 16:] = 0
    config = HfASTConfig(**TINY, **PATCHOUT, pooling=pooling, num_labels=3)
    model = HfASTForAudioClassification(config)
    plain = SpectrogramTransformer(**TINY, **PATCHOUT, pooling=pooling)
    plain.load_state_dict(model.backbone.state_dict())
    for training, num_patches in ((True, NUM_KEPT), (False, 32)):
        model.train(training)
        plain.train(training)
        outputs = model.backbone(spectrograms, attention_mask=mask, generator=seeded(1))
        assert outputs.last_hidden_state.shape[1] == 2 + num_patches
        encoded = plain(spectrograms, mask, generator=seeded(1))
        torch.testing.assert_close(encoded.pooled, outputs.pooler_output)
    labels = torch.tensor([0, 2])
    model.train()
    losses = [model(spectrograms, labels=labels, attention_mask=mask, generator=seeded(s)).loss for s in (1, 1, 2)]
    losses[0].backward()
    assert losses[0] == losses[1] != losses[2]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_patchout_does_not_change_eval():
    spectrograms = torch.randn(2, 64, 32, generator=seeded())
    config = HfASTConfig(**TINY, num_labels=3)
    model = HfASTForAudioClassification(config).eval()
    expected = model(spectrograms).logits
    dropping = HfASTForAudioClassification(HfASTConfig(**TINY, **PATCHOUT, num_labels=3)).eval()
    dropping.load_state_dict(model.state_dict())
    assert torch.equal(dropping(spectrograms).logits, expected)


def test_mean_pooling_of_a_masked_clip_ignores_its_padding_with_patchout():
    config = HfASTConfig(**TINY, **PATCHOUT, pooling="mean")
    model = HfASTForAudioClassification(config).train()
    spectrograms = torch.randn(2, 64, 32, generator=seeded())
    mask = torch.ones(2, 64, dtype=torch.long)
    mask[1, 24:] = 0
    first = model(spectrograms, attention_mask=mask, generator=seeded(5)).logits
    spectrograms[1, 24:] = 100.0
    second = model(spectrograms, attention_mask=mask, generator=seeded(5)).logits
    torch.testing.assert_close(first, second)


def test_too_much_patchout_is_an_error_of_the_forward_pass():
    model = HfASTForAudioClassification(HfASTConfig(**TINY, time_patchout=3)).train()
    with pytest.raises(ValueError, match="time_patchout=3 must be between 0 and 2"):
        model(torch.randn(1, 31, 32))
    with pytest.raises(StrictDataclassClassValidationError, match="time_patchout=-1"):
        HfASTConfig(**TINY, time_patchout=-1)


def test_training_with_patchout_is_one_graph():
    config = HfASTConfig(**TINY, **PATCHOUT, position_crop="random", num_labels=3)
    model = HfASTForAudioClassification(config).train()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    spectrograms, labels = torch.randn(2, 48, 32, generator=seeded()), torch.tensor([0, 2])
    torch.manual_seed(0)
    expected = model(spectrograms, labels=labels).loss
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(spectrograms, labels=labels).loss, expected)
