"""torch.compile of classifiers: no graph break, no compilation for shapes that were seen, few for others."""

import pytest
import torch

from tests.support.classifiers import FAMILIES, tiny_classifier
from tests.support.compiling import Counter
from tests.support.tiny import spectrograms


@pytest.mark.parametrize("family", ["ast", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])])
@torch.no_grad()
def test_graphs(family: str) -> None:
    torch._dynamo.reset()
    model, _ = tiny_classifier(family, num_hidden_layers=1)
    counter = Counter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)

    def run(*shapes: tuple[int, int]) -> int:
        before = counter.num_graphs
        for batch_size, num_frames in shapes:
            inputs = spectrograms(batch_size, num_frames)
            torch.testing.assert_close(compiled(inputs).logits, model(inputs).logits, atol=1e-6, rtol=0)
        return counter.num_graphs - before

    assert run((3, 50)) == 1
    assert run((3, 50), (3, 50)) == 0
    assert run((4, 50), (2, 50), (7, 50)) == 1  # from now on, the batch size is a symbol
    assert run((2, 30), (5, 41), (3, 50), (4, 18)) == 1  # and so is the length


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_declared_dynamic(family: str) -> None:
    """One graph for every batch size and length, where they are declared."""
    torch._dynamo.reset()
    model, _ = tiny_classifier(family, num_hidden_layers=1)
    counter = Counter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for batch_size, num_frames in ((3, 50), (2, 30), (5, 41)):
        inputs = spectrograms(batch_size, num_frames)
        torch._dynamo.mark_dynamic(inputs, 0)
        torch._dynamo.mark_dynamic(inputs, 1)
        torch.testing.assert_close(compiled(inputs).logits, model(inputs).logits, atol=1e-6, rtol=0)
    assert counter.num_graphs == 1
