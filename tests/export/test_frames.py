"""Exported models of frames: their cells at lengths other than the traced one, and when the loader says they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_ast import (
    FPaSSTFeatureExtractor,
    HfASTForAudioClassification,
    HfASTForAudioFrameClassification,
)
from hf_ast.export import export_model, export_program
from hf_ast.export.folder import TARGETS, cell_times, render
from hf_ast.export.program import SOURCES, input_limits
from hf_ast.export.runtimes import OPENERS, Runner
from hf_ast.inference.loading import load_classifier
from hf_ast.models.modules_cells import cell_edges_s
from tests.support.classifiers import FRAMES, logits_of, tiny_classifier
from tests.support.tiny import spectrograms, tiny_frames, waveforms

# Of float32 in another order, with logits up to 10
TOLERANCE = 5e-6


def check(run: Runner, family: str, source: str = "waveform") -> None:
    """Compare with what users get, at both limits and between them."""
    model, extractor = tiny_classifier(family)
    low, high = input_limits(model, extractor, source=source)
    for batch_size, length in ((1, low), (3, high), (4, (low + high) // 2)):
        if source == "waveform":
            inputs = waveforms(batch_size, length)
            expected = logits_of(model, extractor, inputs)
        else:
            inputs = spectrograms(batch_size, length)
            with torch.no_grad():
                expected = model(inputs).logits
        assert expected.ndim == 3
        torch.testing.assert_close(run(inputs), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", ["passt-frames", "fpasst-frames"])
def test_a_program_gives_the_cells_of_the_model_at_any_length(family: str) -> None:
    """PaSST has more cells where a clip is longer; fPaSST completes the waveform, and has as many for all."""
    check(export_program(*tiny_classifier(family)).module(), family)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("family", FRAMES)
@pytest.mark.parametrize("to", OPENERS)
def test_every_file_gives_the_cells_of_the_model(family: str, source: str, to: str, tmp_path: Path) -> None:
    export = export_model(*tiny_classifier(family), tmp_path / "out", to=to, source=source)
    check(OPENERS[to](tmp_path / "out" / export.metadata["file"]), family, source)


def opened_loader(folder: Path, metadata: dict[str, Any], logits: np.ndarray) -> dict[str, Any]:
    """The names in the loader of a model that gives these logits."""
    code = render("classify.py", metadata)
    target = TARGETS[metadata["format"]]
    code = code.replace(target.imports, "").replace(target.opening, "run = lambda inputs: LOGITS[None]")
    (folder / "metadata.json").write_text(json.dumps(metadata))
    names: dict[str, Any] = {"__file__": str(folder / "classify.py"), "__name__": "classify", "LOGITS": logits}
    exec(code, names)
    return names


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("family", FRAMES)
def test_the_loader_says_when_cells_are(family: str, source: str, keywords_export: Path, tmp_path: Path) -> None:
    model, extractor = tiny_classifier(family)
    limits = input_limits(model, extractor, source=source)
    # 0.2 s
    length, num_frames = (3200, extractor.num_frames(3200)) if source == "waveform" else (20, 20)
    pads = source == "waveform" and family != "passt-frames"
    num_cells = model.config.num_cells_of(extractor.max_length if pads else num_frames)
    logits = np.random.default_rng(0).normal(size=(num_cells, 5)).astype(np.float32)
    if extractor.sampling_rate == 32000:
        length *= 2
    times_of_cells = cell_times(model, extractor, source)
    metadata = json.loads((keywords_export / "metadata.json").read_text())
    metadata |= {"input": source, "min_length": limits.shortest, "max_length": limits.longest, **times_of_cells}
    clip = np.zeros(length if source == "waveform" else (20, 32), np.float32)
    times, scores = opened_loader(tmp_path, metadata, logits)["cells"](clip)
    if times_of_cells["cell_s"] is None:  # any clip has as many cells
        edges = np.linspace(0, 0.2, num_cells + 1)
    else:
        first_centre_s = model.config.first_centre_s(extractor.first_frame_s)
        edges = cell_edges_s(
            num_cells, cell_s=model.config.cell_s, first_centre_s=first_centre_s, duration_s=0.2
        ).numpy()
    is_heard = edges[:-1] < edges[1:]
    np.testing.assert_allclose(times, np.stack((edges[:-1], edges[1:]), axis=1)[is_heard], atol=1e-9)
    assert times[-1, 1] == pytest.approx(0.2)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits[is_heard])), rtol=1e-6)


def test_the_readme_says_what_comes_out(keywords_export: Path) -> None:
    metadata = json.loads((keywords_export / "metadata.json").read_text())
    clips = render("README.md", metadata)
    assert "gives `logits` (batch, 12)." in clips
    assert "ells" not in clips
    cells = render("README.md", metadata | {"unit_s": 1 / 16000, "cell_s": 0.1, "first_cell_s": 0.1375})
    assert "gives `logits` (batch, cells, 12)." in cells
    assert "Each lasts 0.1 s, the first one 0.1375 s; the last one ends with the clip." in cells


def test_what_cannot_be_exported_is_an_error() -> None:
    model, extractor = tiny_classifier("fpasst-frames")
    masked = FPaSSTFeatureExtractor(num_mel_bins=32, max_length=52, return_attention_mask=True)
    with pytest.raises(ValueError, match="return_attention_mask=True does not go with source='waveform'"):
        export_program(model, masked)
    model.config.frame_shift_s = 0.02
    with pytest.raises(
        ValueError, match=r"frame_shift_s=0\.02, but its feature extractor makes a frame every 0\.01 s"
    ):
        cell_times(model, extractor, "waveform")


def test_a_folder_of_frames_opens_as_what_is_asked_for(tmp_path: Path) -> None:
    _, extractor = tiny_classifier("ast-frames")
    for name, clip_head in (("both", "linear"), ("frames", "none")):
        tiny_frames(clip_head=clip_head).save_pretrained(tmp_path / name)
        extractor.save_pretrained(tmp_path / name)
        assert type(load_classifier(tmp_path / name, frames=True)[0]) is HfASTForAudioFrameClassification
    assert type(load_classifier(tmp_path / "both")[0]) is HfASTForAudioClassification
    with pytest.raises(ValueError, match="labels cells of time: open it with AutoModelForAudioFrameClassification"):
        load_classifier(tmp_path / "frames")
