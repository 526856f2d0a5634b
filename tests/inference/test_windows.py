"""Windows cover every sample of a recording, however it arrives."""

import numpy as np
import pytest
from hypothesis import strategies as st

from hf_ast.inference.windows import WindowStream, as_samples, covering_starts, num_centred_windows, whole_windows
from tests.support.cases import cases


@pytest.mark.parametrize(
    ("samples", "window", "hop", "starts"),
    [
        (5, 10, 10, [0]),
        (10, 10, 10, [0]),
        (11, 10, 10, [0, 1]),
        (20, 10, 10, [0, 10]),
        (25, 10, 10, [0, 10, 15]),
        (30, 10, 10, [0, 10, 20]),
        (25, 10, 5, [0, 5, 10, 15]),
        (26, 10, 5, [0, 5, 10, 15, 16]),
        (12, 10, 1, [0, 1, 2]),
    ],
)
def test_starts(samples: int, window: int, hop: int, starts: list[int]) -> None:
    assert covering_starts(samples, window, hop) == starts


@st.composite
def grids(draw: st.DrawFn) -> tuple[int, int, int]:
    window = draw(st.integers(1, 60))
    return draw(st.integers(1, 400)), window, draw(st.integers(1, window))


@cases(3, grid=grids())
def test_every_sample_is_in_a_window(grid: tuple[int, int, int]) -> None:
    num_samples, window, hop = grid
    starts = covering_starts(num_samples, window, hop)
    length = min(window, num_samples)
    covered = np.zeros(num_samples, dtype=int)
    for start in starts:
        assert 0 <= start <= num_samples - length
        covered[start : start + length] += 1
    assert covered.min() >= 1
    assert starts[-1] + length == num_samples
    assert starts == sorted(set(starts))
    assert starts[:-1] == list(range(0, hop * (len(starts) - 1), hop))


@cases(1.5, grid=grids(), sizes=st.lists(st.integers(0, 120), max_size=20))
def test_a_stream_gives_the_same_windows(grid: tuple[int, int, int], sizes: list[int]) -> None:
    num_samples, window, hop = grid
    recording = np.arange(num_samples, dtype=np.float32)
    stream = WindowStream(window, hop)
    for _ in range(2):  # a flushed stream begins anew
        found = []
        for piece in np.split(recording, np.minimum(np.cumsum(sizes), num_samples).astype(int)):
            kept = stream.push(piece)
            found += [] if kept is None else list(zip(kept.starts, kept.windows(window), strict=True))
            assert len(stream._kept) < window + hop
        last = stream.flush()
        found += [] if last is None else list(zip(last.starts, last.windows(window), strict=True))
        assert [start for start, _ in found] == covering_starts(num_samples, window, hop)
        for start, clip in found:
            np.testing.assert_array_equal(clip, recording[start : start + window])


def test_windows_that_would_leave_samples_out_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"hop=11 must be between 1 and window=10 samples"):
        covering_starts(100, 10, 11)
    with pytest.raises(ValueError, match="window=0 must be at least one sample"):
        WindowStream(0, 1)
    with pytest.raises(ValueError, match="hop=0 must be between 1 and window=10"):
        covering_starts(100, 10, 0)
    with pytest.raises(ValueError, match="hop=2 must be between 1 and window=1"):
        WindowStream(1, 2)
    with pytest.raises(ValueError, match="num_samples=0 must be at least 1"):
        covering_starts(0, 1, 1)
    assert covering_starts(1, 1, 1) == [0]


def test_windows_from_one_on() -> None:
    assert list(whole_windows(30, 10, 5)) == [0, 5, 10, 15, 20]
    assert list(whole_windows(30, 10, 5, first=15)) == [15, 20]
    assert list(whole_windows(9, 10, 5)) == []


@pytest.mark.parametrize(("samples", "windows"), [(0, 1), (9, 1), (10, 2), (19, 2), (20, 3)])
def test_windows_around_the_multiples_of_the_hop(samples: int, windows: int) -> None:
    assert num_centred_windows(samples, 10) == windows


def test_a_stream_that_got_nothing_has_no_window() -> None:
    stream = WindowStream(4, 2)
    assert stream.flush() is None
    assert stream.push(np.zeros(0, dtype=np.float32)) is None
    assert stream.flush() is None
    assert stream.push(np.ones(3, dtype=np.float32)) is None
    assert stream.num_samples == 3
    last = stream.flush()
    assert (last.offset, last.starts, last.samples.tolist(), last.samples.dtype) == (0, [0], [1, 1, 1], np.float32)
    assert stream.num_samples == 0


def test_a_stream_keeps_no_more_than_a_window_and_what_was_pushed() -> None:
    stream = WindowStream(10, 3)
    kept = []
    for _ in range(20):
        stream.push(np.zeros(1, dtype=np.float32))
        kept.append(len(stream._kept))
    # 10 samples, because the window that ends with the recording may begin before the next multiple of the hop
    assert kept == [*range(1, 11), *[10] * 10]


def test_a_span_ends_with_its_last_window() -> None:
    stream = WindowStream(4, 2)
    stream.push(np.arange(5, dtype=np.float32))
    span = stream.push(np.arange(5, 11, dtype=np.float32))
    assert (span.offset, span.starts) == (2, [2, 4, 6])
    assert span.samples.tolist() == list(range(2, 10))


def test_lengths_in_samples() -> None:
    assert as_samples("hop_s", 0.5, 16000) == 8000
    assert as_samples("hop_s", 0.00009, 16000) == 1  # 1.44
    assert as_samples("hop_s", 0.0001, 16000) == 2  # 1.6
    with pytest.raises(ValueError, match="hop_s=1e-05 must be at least one sample long"):
        as_samples("hop_s", 1e-5, 16000)
    with pytest.raises(ValueError, match="window_s"):
        as_samples("window_s", float("nan"), 16000)
