"""Scores of cells of time, from windows that overlap and from models that label cells."""

import itertools

import numpy as np
import pytest
import torch

import hf_ast
from hf_ast import FPaSSTFeatureExtractor, HfASTFeatureExtractor, StreamTagger, tag
from hf_ast.inference.cells import CellMean
from hf_ast.inference.events import find_events
from hf_ast.inference.windows import covering_starts
from hf_ast.models.modules_cells import cell_edges_s
from tests.support.tiny import tiny_fpasst_frames, tiny_frames, tiny_model, waveforms

EXTRACTOR = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
FRAMES = {
    "ast": (tiny_frames(), EXTRACTOR),
    "fpasst": (tiny_fpasst_frames(), FPaSSTFeatureExtractor(num_mel_bins=32, max_length=52)),
}


def plain_cells(starts: list[int], length: int, scores: np.ndarray, hop: int) -> tuple[list[int], np.ndarray]:
    """Edges, and the mean over the windows that cover the middle of each cell, cell by cell."""
    end = starts[-1] + length
    edges = [*range(0, end, hop), end]
    means = []
    for first, last in itertools.pairwise(edges):
        middle = (first + last) / 2
        covering = [row for start, row in zip(starts, scores, strict=True) if start <= middle < start + length]
        means.append(np.mean(covering, axis=0, dtype=np.float64))
    return edges, np.array(means)


@pytest.mark.parametrize("seed", range(60))
def test_a_cell_is_the_mean_over_the_windows_that_cover_its_middle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window, num_samples = int(rng.integers(1, 40)), int(rng.integers(1, 300))
    hop = int(rng.integers(1, window + 1))
    starts, length = covering_starts(num_samples, window, hop), min(window, num_samples)
    scores = rng.random((len(starts), 1, 2)).astype(np.float32)
    mean = CellMean(hop, 10)
    cells = mean.whole(starts, length, scores)
    edges, expected = plain_cells(starts, length, scores[:, 0], hop)
    np.testing.assert_allclose(cells.edges_s, np.array(edges) / 10)
    np.testing.assert_allclose(cells.scores, expected, atol=1e-7)
    # In pieces, bit for bit
    cut = int(rng.integers(1, len(starts) + 1))
    pieces = [mean.push(starts[:cut], length, scores[:cut])]
    if cut < len(starts):
        pieces.append(mean.push(starts[cut:], length, scores[cut:]))
    pieces.append(mean.flush())
    np.testing.assert_array_equal(np.concatenate([piece.scores for piece in pieces]), cells.scores)
    assert all(one.edges_s[-1] == other.edges_s[0] for one, other in itertools.pairwise(pieces))


@torch.no_grad()
def by_hand(family: str, clip: np.ndarray) -> torch.Tensor:
    """Scores of the cells of one clip (K, C)."""
    model, extractor = FRAMES[family]
    return model(**extractor(clip, 16000, return_tensors="pt")).logits[0].sigmoid()


@pytest.mark.parametrize("family", FRAMES)
def test_one_window_has_the_cells_of_the_model(family: str) -> None:
    model, extractor = FRAMES[family]
    clip = waveforms(1, extractor.max_samples)[0].numpy()
    tagging = tag(model, extractor, clip)
    expected = by_hand(family, clip)
    torch.testing.assert_close(tagging.cell_scores, expected, atol=1e-6, rtol=0)
    edges_s = cell_edges_s(
        len(expected),
        cell_s=model.config.cell_s,
        first_centre_s=model.config.first_centre_s(extractor.first_frame_s),
        duration_s=len(clip) / 16000,
    )
    torch.testing.assert_close(tagging.cell_edges_s, edges_s)
    torch.testing.assert_close(tagging.window_scores[0], expected.amax(dim=0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FRAMES)
def test_windows_of_frames_lie_side_by_side_and_begin_with_a_cell(family: str) -> None:
    """Between the first window and the last, a cell has the score that the model gives it in its window."""
    model, extractor = FRAMES[family]
    recording = waveforms(1, 40000)[0].numpy()
    tagging = tag(model, extractor, recording)
    cell = round(model.config.cell_s * 16000)
    starts = (tagging.window_times_s[:, 0] * 16000).round().long().tolist()
    assert all(start % cell == 0 for start in starts)
    assert tagging.window_times_s[-1, 1] == tagging.cell_edges_s[-1] == 2.5
    per_window = starts[1] // cell
    lengths_s = tagging.cell_edges_s.diff()[1:-1]
    torch.testing.assert_close(lengths_s, torch.full_like(lengths_s, cell / 16000))
    for number, start in enumerate(starts[:2]):
        expected = by_hand(family, recording[start : start + extractor.max_samples])[:per_window]
        found = tagging.cell_scores[number * per_window : (number + 1) * per_window]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_cells_of_windows_of_frames_that_overlap_are_averaged() -> None:
    model, extractor = FRAMES["fpasst"]
    cell = round(model.config.cell_s * 16000)
    recording = waveforms(1, extractor.max_samples + 4 * cell)[0].numpy()
    tagging = tag(model, extractor, recording, hop_s=4.3 * model.config.cell_s)
    assert (tagging.window_times_s[:, 0] * 16000).round().tolist() == [0, 4 * cell]
    first, second = (by_hand("fpasst", recording[start:][: extractor.max_samples]) for start in (0, 4 * cell))
    expected = torch.cat((first[:4], (first[4:] + second[:-4]) / 2, second[-4:]))
    torch.testing.assert_close(tagging.cell_scores, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FRAMES)
def test_cells_in_padding_are_left_out(family: str) -> None:
    model, extractor = FRAMES[family]
    clip = waveforms(1, 4000)[0].numpy()
    tagging = tag(model, extractor, clip)
    assert tagging.cell_edges_s[-1] == 0.25
    num_cells = len(tagging.cell_scores)
    assert num_cells < len(by_hand(family, clip))
    torch.testing.assert_close(tagging.cell_scores, by_hand(family, clip)[:num_cells], atol=1e-6, rtol=0)
    assert len(tag(model, extractor, clip[:1]).cell_scores) == 1


def test_frames_that_do_not_fit_the_front_end_are_an_error() -> None:
    model, extractor = FRAMES["fpasst"]
    with pytest.raises(ValueError, match=r"num_cells=10, but the feature extractor has max_length=104"):
        tag(model, FPaSSTFeatureExtractor(num_mel_bins=32, max_length=104), np.zeros(9000, np.float32))
    wrong = tiny_frames(frame_shift_s=0.02)
    with pytest.raises(ValueError, match=r"frame_shift_s=0\.02"):
        tag(wrong, EXTRACTOR, np.zeros(9000, np.float32))
    with pytest.raises(ValueError, match=r"labels cells of time; `hf_ast\.tag` takes it"):
        hf_ast.score_clips(model, extractor, [np.zeros(8000, np.float32)])


@pytest.mark.parametrize("family", ["windows", *FRAMES])
@pytest.mark.parametrize("sizes", [(40000,), (100, 9000, 1, 20000, 10899), (3000,) * 13 + (1000,)])
def test_a_stream_tells_the_events_of_the_recording(family: str, sizes: tuple[int, ...]) -> None:
    model, extractor = FRAMES.get(family, (tiny_model(), EXTRACTOR))
    recording = waveforms(1, 40000, seed=3)[0].numpy() * np.linspace(0, 3, 40000, dtype=np.float32)
    hop_s = 0.1 if family == "windows" else None
    median = float(tag(model, extractor, recording, hop_s=hop_s).cell_scores.median())
    settings = {"threshold": median, "release": 0.98 * median, "median_s": 0.3}
    settings |= {"longest_gap_s": 0.05, "shortest_s": 0.09}
    expected = tag(model, extractor, recording, hop_s=hop_s, shared_features=False, **settings)
    assert len(expected.events) > 2
    again = find_events(expected.cell_scores, expected.cell_edges_s, expected.labels, **settings)
    assert again == expected.events
    stream = StreamTagger(model, extractor, hop_s=hop_s, **settings)
    events = []
    for piece in np.split(recording, np.cumsum(sizes)[:-1]):
        stream.push(piece)
        events += stream.new_events()
    num_before = len(events)
    stream.flush()
    events += stream.new_events()
    assert num_before > 0 or family != "windows"
    assert stream.new_events() == []
    # To float noise: batches of other sizes
    assert [event[:3] for event in sorted(events)] == [event[:3] for event in sorted(expected.events)]
