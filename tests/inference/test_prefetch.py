"""Working ahead in a thread."""

import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import pytest

from hf_ast.inference.prefetch import prefetched


def test_items_and_errors_arrive_in_their_order() -> None:
    def items() -> Iterator[int]:
        yield from range(100)
        raise ValueError("after the last one")

    ahead = prefetched(items())
    assert list(islice(ahead, 100)) == list(range(100))
    with pytest.raises(ValueError, match="after the last one"):
        next(ahead)


def test_who_stops_early_leaves_no_thread_and_closes_the_source() -> None:
    made, closed = [], []

    def items() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    with closing(prefetched(items(), num_ahead=3)) as ahead:
        assert [next(ahead), next(ahead)] == [0, 1]
    assert closed == [True]
    assert len(made) <= 7  # two are used, three wait, one is to be put, one is being made
    assert "prefetched" not in [thread.name for thread in threading.enumerate()]
