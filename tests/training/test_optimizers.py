import io

import torch

from hf_ast.training.optimizers import MuonAdamW, orthogonalized
from tests.support.tiny import spectrograms, tiny_model


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        model(spectrograms(2, 50, seed=step), labels=torch.tensor([0, 3])).loss.backward()
        optimizer.step()


def saved_and_loaded(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


def test_a_resumed_training_continues_with_its_moments() -> None:
    whole = tiny_model()
    optimizer = MuonAdamW(whole)
    train(whole, optimizer, range(2))
    state = saved_and_loaded({"model": whole.state_dict(), "optimizer": optimizer.state_dict()})
    train(whole, optimizer, range(2, 4))

    resumed = tiny_model(seed=1)
    optimizer = MuonAdamW(resumed)
    resumed.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    assert len(optimizer.state) == len(list(resumed.parameters()))
    train(resumed, optimizer, range(2, 4))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)


def test_the_updates_are_those_of_torch() -> None:
    ours, separate = tiny_model(), tiny_model()
    matrices = {name for name, p in separate.backbone.layers.named_parameters(prefix="backbone.layers") if p.ndim == 2}
    groups: dict[str, list] = {"muon": [], "decayed": [], "not decayed": []}
    for name, parameter in separate.named_parameters():
        is_vector = parameter.ndim < 2
        groups["muon" if name in matrices else "not decayed" if is_vector else "decayed"].append(parameter)
    muon = torch.optim.Muon(groups["muon"], lr=4e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    decayed = torch.optim.AdamW(groups["decayed"], lr=1.5e-3, weight_decay=0.05)
    not_decayed = torch.optim.AdamW(groups["not decayed"], lr=1.5e-3, weight_decay=0.0)
    optimizer = MuonAdamW(ours)
    before = {name: parameter.detach().clone() for name, parameter in ours.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        # Of full rank: torch iterates in bfloat16, and five steps enlarge what its rounding leaves in a null space
        for ours_, theirs in zip(ours.parameters(), separate.parameters(), strict=True):
            ours_.grad = theirs.grad = torch.randn(ours_.shape, generator=generator)
        for part in (optimizer, muon, decayed, not_decayed):
            part.step()
    expected = separate.state_dict()
    for name, parameter in ours.named_parameters():
        difference, change = parameter - expected[name], expected[name] - before[name]
        assert difference.norm() <= (0.02 if name in matrices else 0) * change.norm(), name


def test_singular_values_are_near_one() -> None:
    for shape in ((3, 16, 40), (3, 40, 16)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
        # What five steps of this polynomial reach
        torch.testing.assert_close(values, torch.ones_like(values), atol=0.35, rtol=0, msg=str(shape))


def test_norms_and_biases_are_not_decayed_and_schedules_set_all_rates() -> None:
    model = tiny_model()
    optimizer = MuonAdamW(model, weight_decay=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # what changes now is decay
    optimizer.step()
    for name, parameter in model.named_parameters():
        is_encoder_matrix = name.startswith("backbone.layers") and parameter.ndim == 2
        rate = 0.5 * (4e-3 if is_encoder_matrix else 1.5e-3)
        factor = 1.0 if parameter.ndim < 2 else 1 - rate * 0.5
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)
    assert schedule.get_last_lr() == [2e-3, 0.75e-3, 0.75e-3]
