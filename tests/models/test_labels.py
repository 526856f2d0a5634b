"""Labels and their losses: what is accepted, what is refused and how, and settings of the config out of range."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F

from hf_ast.models.modules_classification import classification_loss, infer_problem_type
from tests.support.tiny import spectrograms, tiny_config, tiny_model

NAN, INFINITE = float("nan"), float("inf")
SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


def logits(num_labels: int = 5) -> torch.Tensor:
    return torch.randn(3, num_labels, generator=torch.Generator().manual_seed(0))


def filled(value: float) -> torch.Tensor:
    """Labels (3, 5) of zeros with one other value."""
    labels = torch.zeros(3, 5)
    labels[1, 2] = value
    return labels


def with_row(value: float) -> torch.Tensor:
    """Soft labels (3, 5) with a row of other values."""
    labels = filled(1.0).softmax(1)
    labels[1] = value
    return labels


def test_labels_tell_the_kind_of_problem() -> None:
    indices, values = torch.tensor([0, 1]), torch.tensor([[0.0, 1.0]])
    assert infer_problem_type(values[:, :1], 1) == REGRESSION
    assert infer_problem_type(indices, 1) == REGRESSION
    assert infer_problem_type(values, 2) == MULTI
    assert infer_problem_type(indices, 2) == SINGLE


def test_labels_must_be_a_tensor() -> None:
    message = "labels is a list, but must be a tensor; convert it with `torch.as_tensor"
    labels: Any = [0, 1, 2]
    with pytest.raises(ValueError, match=message):
        infer_problem_type(labels, 5)
    with pytest.raises(ValueError, match=message):
        classification_loss(logits(), labels, SINGLE)


@pytest.mark.parametrize(
    ("problem_type", "labels", "message"),
    [
        (SINGLE, torch.tensor([0, 1, 5]), "labels holds 5, .* indices from 0 to 4, .* with `num_labels=`"),
        (SINGLE, torch.tensor([0, -1, 2]), "labels holds -1, .* or -100 for clips to leave out"),
        (SINGLE, torch.eye(5, dtype=torch.long)[:3], r"int64 of shape \(3, 5\).* `labels.argmax\(1\)`"),
        (SINGLE, torch.eye(5, dtype=torch.bool)[:3], r"bool of shape \(3, 5\).* `labels.argmax\(1\)`"),
        (SINGLE, torch.tensor([0.0, 1.0, 2.0]), r"float32 of shape \(3,\).* `labels.long\(\)`"),
        (SINGLE, torch.tensor([0, 1]), r"int64 of shape \(2,\).* There are 3 clips"),
        (SINGLE, torch.tensor([], dtype=torch.long), r"shape \(0,\).* There are 3 clips"),
        (SINGLE, torch.tensor(1), r"shape \(\).* There are 3 clips"),
        (SINGLE, filled(NAN), "labels holds nan, .* between 0 and 1"),
        (SINGLE, filled(1.5), "labels holds 1.5, .* between 0 and 1"),
        (MULTI, torch.tensor([0.0, 1.0, 2.0]), r"float32 of shape \(3,\).*needs .* shape \(3, 5\).*one_hot"),
        (MULTI, torch.tensor([0, 1, 2]), r"int64 of shape \(3,\).*config.problem_type=.single_label"),
        (MULTI, filled(NAN), "labels holds nan, .* between 0 and 1"),
        (MULTI, filled(INFINITE), "labels holds inf, "),
        (MULTI, filled(-1), "labels holds -1.0, "),
        (MULTI, torch.zeros(2, 5), r"shape \(2, 5\).* There are 3 clips"),
        (SINGLE, filled(-100), "labels holds -100.0, "),  # soft labels are left out for a whole clip
        (REGRESSION, filled(NAN), "labels holds nan, but must hold finite numbers"),
        (REGRESSION, filled(-INFINITE), "labels holds -inf, "),
        (REGRESSION, torch.zeros(3), r"float32 of shape \(3,\).* targets of shape \(3, 5\).*`num_labels=`"),
    ],
)
def test_wrong_labels_are_named(problem_type: str, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_loss(logits(), labels, problem_type)


def test_the_model_names_labels_that_do_not_suit_it() -> None:
    """Labels that are refused do not decide the problem type of the later ones."""
    model, clips = tiny_model(), spectrograms(3, 20)
    one_hot = torch.eye(5, dtype=torch.long)[:3]
    with pytest.raises(ValueError, match=r"`labels.argmax\(1\)`"):
        model(clips, labels=one_hot)
    assert model.config.problem_type is None
    loss = model(clips, labels=one_hot.float()).loss
    assert model.config.problem_type == MULTI
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(model(clips).logits, one_hot.float()))
    with pytest.raises(ValueError, match="empty batch; pass at least one clip"):
        model(clips[:0], labels=one_hot[:0].float())


def test_unknown_problem_type() -> None:
    with pytest.raises(ValueError, match="problem_type='other' is unknown; choose one of"):
        classification_loss(logits(), torch.tensor([0, 1, 2]), "other")


@pytest.mark.parametrize(
    ("problem_type", "labels", "expected"),
    [
        (SINGLE, torch.tensor([4, 0, 2]), lambda x, y: F.cross_entropy(x, y)),
        (SINGLE, torch.tensor([[4], [0], [2]]), lambda x, y: F.cross_entropy(x, y.flatten())),
        (SINGLE, torch.tensor([4, 0, 2], dtype=torch.int32), lambda x, y: F.cross_entropy(x, y.long())),
        (SINGLE, torch.tensor([4, -100, 2]), lambda x, y: F.cross_entropy(x[[0, 2]], y[[0, 2]])),
        (SINGLE, filled(1.0).softmax(1), lambda x, y: -(x.log_softmax(1) * y).sum(1).mean()),
        (SINGLE, with_row(-100), lambda x, y: -(x.log_softmax(1) * y)[[0, 2]].sum(1).mean()),
        (MULTI, with_row(-100), lambda x, y: F.binary_cross_entropy(x[[0, 2]].sigmoid(), y[[0, 2]])),
        (MULTI, filled(-100), lambda x, y: F.binary_cross_entropy(x.sigmoid()[y >= 0], y[y >= 0])),
        (MULTI, filled(0.3), lambda x, y: F.binary_cross_entropy(x.sigmoid(), y)),  # as mixup makes them
        (MULTI, filled(1.0).long(), lambda x, y: F.binary_cross_entropy(x.sigmoid(), y.float())),
        (REGRESSION, filled(-7.0), lambda x, y: (x - y).square().mean()),
    ],
)
def test_losses(problem_type: str, labels: torch.Tensor, expected: Callable[..., torch.Tensor]) -> None:
    """Against formulas, in float32; and the same when a step is cut into uneven parts, as Trainer counts them."""
    whole = classification_loss(logits(), labels, problem_type)
    torch.testing.assert_close(whole, expected(logits(), labels))
    num_items = int(labels.ne(-100).sum())
    parts = [slice(0, 1), slice(1, 3)]
    losses = [classification_loss(logits()[part], labels[part], problem_type, num_items) for part in parts]
    torch.testing.assert_close(sum(losses), whole)


def test_targets_of_one_output() -> None:
    targets = torch.tensor([0.5, -1.0, 2.0])
    expected = (logits(1)[:, 0] - targets).square().mean()
    for labels in (targets, targets[:, None]):
        torch.testing.assert_close(classification_loss(logits(1), labels, REGRESSION), expected)


@pytest.mark.parametrize(
    ("problem_type", "labels", "wrong"),
    [
        (SINGLE, torch.tensor([4, -100, 2]), torch.tensor([4, 5, 2])),
        (SINGLE, filled(0.3), filled(NAN)),
        (MULTI, filled(0.3), filled(NAN)),
        (REGRESSION, filled(-7.0), filled(INFINITE)),
    ],
)
def test_compiled_code_checks_labels_without_a_graph_break(
    problem_type: str, labels: torch.Tensor, wrong: torch.Tensor
) -> None:
    compiled = torch.compile(classification_loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(
        compiled(logits(), labels, problem_type), classification_loss(logits(), labels, problem_type)
    )
    with pytest.raises(RuntimeError, match="labels has a value that is out of range"):
        compiled(logits(), wrong, problem_type)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_labels": 0}, "num_labels=0 must be a positive whole number"),
        ({"num_labels": -1}, "num_labels=-1 must be a positive whole number"),
        ({"num_labels": "3"}, "num_labels='3' must be a positive whole number"),
        ({"num_labels": 2.5}, "num_labels=2.5 must be"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1 must be positive"),
        ({"num_hidden_layers": "2"}, "'num_hidden_layers' expected int, got str"),
        ({"drop_path_rate": 2}, r"drop_path_rate=2 must be in \[0, 1\)"),
        ({"drop_path_rate": NAN}, "drop_path_rate=nan must be in"),
        ({"drop_path_rate": "0.1"}, "'drop_path_rate' with value '0.1' doesn't match"),
        ({"initializer_range": NAN}, "initializer_range=nan must be a positive, finite number"),
        ({"max_length": 10**9}, "max_length=1000000000 and num_mel_bins=32 make 5 x 249999999 patches"),
        ({"max_length": None}, "'max_length' expected int, got NoneType"),
        ({"patch_size": [16, "a"]}, "patch_size"),
        ({"problem_type": "tagging"}, "problem_type='tagging' is unknown; choose one of"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        tiny_config(**changes)
