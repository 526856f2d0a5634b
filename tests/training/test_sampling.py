import pickle

import numpy as np
import pytest
import torch

from hf_ast.training.sampling import Draw, EvenOrder, TrainingRows, class_balanced_weights, multi_hot, seeded_generator

LABELS = [0, 1, 0, 0, [1, 2], [2, 0], 1]


def dataset(num_rows: int) -> list[dict[str, int]]:
    return [{"row": index} for index in range(num_rows)]


@pytest.mark.parametrize("offset", [0.01, 100.0])
def test_weights_are_the_official_ones(offset: float) -> None:
    counts = [0.0, 0.0, 0.0]
    for labels in LABELS:
        for label in labels if isinstance(labels, list) else [labels]:
            counts[label] += 1
    expected = []
    for labels in LABELS:
        weight = 0.0
        for label in labels if isinstance(labels, list) else [labels]:
            weight += 1000.0 / (counts[label] + offset)
        expected.append(weight)
    weights = class_balanced_weights(LABELS, 3, offset=offset)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64), atol=0, rtol=1e-12)
    table = [multi_hot(labels, 3).numpy() for labels in LABELS]
    torch.testing.assert_close(class_balanced_weights(table, 3, offset=offset), weights, atol=0, rtol=0)


def test_labels_in_every_form() -> None:
    expected = torch.tensor([0.0, 1.0, 0.0, 1.0])
    for labels in ([1, 3], (3, 1), np.array([0, 1, 0, 1]), torch.tensor([0.0, 1.0, 0.0, 1.0]), [0.0, 1.0, 0.0, 1.0]):
        torch.testing.assert_close(multi_hot(labels, 4), expected, atol=0, rtol=0)
    for labels in (2, np.int64(2), torch.tensor(2)):
        assert multi_hot(labels, 4).tolist() == [0, 0, 1, 0]
    assert multi_hot([], 2).tolist() == [0, 0]
    with pytest.raises(ValueError, match="labels holds 4, but classes are numbered from 0 to 3"):
        multi_hot([1, 4], 4)
    with pytest.raises(ValueError, match=r"shape \(3,\), but must hold one number for each of 4"):
        multi_hot(np.zeros(3), 4)


def test_errors_of_weights() -> None:
    with pytest.raises(ValueError, match="labels is empty"):
        class_balanced_weights([], 3)
    with pytest.raises(ValueError, match="labels of 1 clips, such as number 1"):
        class_balanced_weights([[0], [], [1]], 3)
    for weights in (torch.tensor([1.0, -1.0]), torch.tensor([1.0, float("nan")]), torch.zeros(2)):
        with pytest.raises(ValueError, match="weights must be finite"):
            TrainingRows(dataset(2), weights=weights)
    with pytest.raises(ValueError, match=r"weights has shape \(3,\), but the dataset has 2 rows"):
        TrainingRows(dataset(2), weights=torch.ones(3))
    with pytest.raises(ValueError, match="num_rows=5 needs weights"):
        TrainingRows(dataset(2), num_rows=5)


def test_balanced_rows_have_the_classes_equally_often() -> None:
    labels = [0] * 900 + [1] * 90 + [2] * 10
    rows = TrainingRows(dataset(1000), weights=class_balanced_weights(labels, 3), num_rows=6000)
    rows.set_epoch(0)
    drawn = [labels[rows[index]["row"]] for index in range(len(rows))]
    counts = torch.bincount(torch.tensor(drawn)).double()
    # Five standard deviations of a count of 6000 draws with probability 1/3
    assert ((counts - 2000).abs() < 5 * (6000 * 2 / 9) ** 0.5).all()


def test_an_epoch_can_be_drawn_again_and_differs_from_others() -> None:
    def epoch(number: int, seed: int = 0) -> list[int]:
        rows = TrainingRows(dataset(50), weights=torch.ones(50), seed=seed)
        rows.set_epoch(number)
        return [rows[index]["row"] for index in range(50)]

    assert epoch(3) == epoch(3)
    assert epoch(3) != epoch(4)
    assert epoch(3) != epoch(3, seed=1)
    expected = torch.multinomial(torch.ones(50), 50, replacement=True, generator=seeded_generator(0, 3))
    assert epoch(3) == expected.tolist()


def test_rows_without_weights_are_the_dataset_with_draws() -> None:
    rows = TrainingRows(dataset(3))
    with pytest.raises(ValueError, match=r"callbacks=\[rows\]"):
        rows[0]
    rows.set_epoch(2)
    for index in range(3):
        draw = rows[index]["draw"]
        assert rows[index].keys() == {"row", "draw"}
        assert (rows[index]["row"], draw.rows, draw.epoch, draw.index, draw.counts) == (index, rows, 2, index, True)
    assert pickle.loads(pickle.dumps(rows))[1]["draw"].epoch == 2


def test_workers_that_stay_alive_learn_the_epoch() -> None:
    rows = TrainingRows(dataset(4))
    loader = torch.utils.data.DataLoader(rows, num_workers=1, persistent_workers=True, collate_fn=lambda items: items)
    for epoch in (0, 1):
        rows.set_epoch(epoch)
        draws = [item["draw"] for batch in loader for item in batch]
        assert [(draw.epoch, draw.index) for draw in draws] == [(epoch, index) for index in range(4)]


def test_an_order_is_filled_up_with_rows_that_do_not_count() -> None:
    rows = TrainingRows(dataset(5))
    rows.set_epoch(1)
    order = list(EvenOrder(rows, 4))
    assert len(order) == len(EvenOrder(rows, 4)) == 8
    assert order[5:] == [None] * 3
    assert sorted(order[:5]) == list(range(5))
    assert list(EvenOrder(rows, 1)) == order[:5]
    rows.set_epoch(2)
    assert list(EvenOrder(rows, 1)) != order[:5]
    assert [rows[index]["draw"].counts for index in (4, None)] == [True, False]


def test_sources_of_randomness_do_not_repeat() -> None:
    rows = TrainingRows(dataset(5))
    generators = [
        Draw(rows, epoch, index).generator(purpose) for epoch in (0, 1) for index in (0, 1) for purpose in (1, 2)
    ]
    assert len({float(torch.rand((), generator=generator)) for generator in generators}) == 8
