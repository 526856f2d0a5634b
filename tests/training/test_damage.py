"""Recordings that turn out to be damaged while training reads them, extras that are missing, and costs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hf_ast.data.labelled import Clip, LabelledData, read_data
from hf_ast.data.sources import Source
from hf_ast.training.clips import Clips
from hf_ast.training.damage import DamagedRecordings
from hf_ast.training.extras import NEEDED, expect_train
from hf_ast.training.sampling import class_balanced_weights
from tests.support.interpreter import ROOT, run
from tests.support.labelled import write_wavs


@pytest.fixture
def data(tmp_path: Path) -> LabelledData:
    """Twenty recordings of two classes, of which one was damaged after it was checked."""
    write_wavs(tmp_path, *(f"{label}/{number:02d}.wav" for label in ("owl", "wren") for number in range(10)))
    data = read_data(tmp_path, validation_fraction=0.0)
    (tmp_path / "owl" / "09.wav").write_bytes(b"no recording any more")
    return data


def test_a_damaged_recording_is_replaced_by_the_next_one_with_its_label(data: LabelledData) -> None:
    rows = Clips(data, data.clips, sampling_rate=8000, duration_s=5.0)
    damaged, following = rows[9], rows[10]
    np.testing.assert_array_equal(damaged["waveform"], following["waveform"])
    assert damaged["labels"] == following["labels"] == 1
    assert rows.damaged == ["owl/09.wav"]
    rows.expect_few_damaged()


def test_workers_of_a_data_loader_tell_the_main_process(data: LabelledData) -> None:
    rows = Clips(data, data.clips, sampling_rate=8000, duration_s=5.0)
    loader = DataLoader(rows, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sum(1 for _ in loader) == 20
    assert rows.damaged == ["owl/09.wav"]
    assert DamagedRecordings(rows, rows).names() == ["owl/09.wav"]


def test_more_than_a_tenth_of_damaged_recordings_end_training(data: LabelledData, tmp_path: Path) -> None:
    for number in (2, 5):
        (tmp_path / "wren" / f"{number:02d}.wav").unlink()
    rows = Clips(data, data.clips, sampling_rate=8000, duration_s=5.0)
    for index in range(20):
        rows[index]
    with pytest.raises(ValueError, match=r"3 of 20 recordings are damaged, such as \['owl/09.wav', 'wren/02.wav'"):
        DamagedRecordings(rows).on_step_end()


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_package_is_named_with_the_extra_of_training(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'need {NEEDED[missing]}: pip install "hf-ast\[train\]"'):
        expect_train()


@pytest.mark.slow
def test_training_and_its_data_need_neither_pyarrow_nor_datasets(tmp_path: Path) -> None:
    write_wavs(tmp_path, "owl/a.wav", "wren/b.wav", duration_s=0.2)
    (tmp_path / "x.csv").write_text("path,label\nowl/a.wav,owl\nwren/b.wav,wren\n")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    code = f"""
import sys
sys.modules["datasets"] = None  # transformers asks whether it is there
import hf_ast.training.finetune
from hf_ast.data.labelled import read_data
print(read_data({str(tmp_path / "x.csv")!r}).labels)
unwanted = ("pyarrow", "datasets.", "hf_ast.inference.corpus")
print([name for name, module in sys.modules.items() if module and name.startswith(unwanted)])
from hf_ast.data.tables import read_table
try:
    read_table(b"PAR1", "x.parquet")
except ImportError as error:
    print(error)
"""
    lines = run(code, without=("pyarrow",), cwd=ROOT).splitlines()
    assert lines == ["['owl', 'wren']", "[]", 'Reading Parquet needs pyarrow: pip install "hf-ast[corpus]"']


def many(number: int) -> LabelledData:
    """Clips of AudioSet's 527 classes, three for each."""
    clips = [Clip(name=str(i), index=i, labels=(i % 527, (i + 1) % 527, (i + 7) % 527)) for i in range(number)]
    labels = [str(label) for label in range(527)]
    return LabelledData(source=Source(kind="folder", location="."), clips=clips, labels=labels, multi_label=True)


def test_counts_and_weights_look_at_each_clip_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = many(2000)
    calls = []
    monkeypatch.setattr(LabelledData, "of", lambda self, split: calls.append(split))
    counts = data.counts()
    assert not calls
    assert sum(of_class["train"] for of_class in counts.values()) == 6000
    weights = class_balanced_weights([list(clip.labels) for clip in data.clips], 527)
    hot = torch.as_tensor(data.targets(data.clips), dtype=torch.float64)
    np.testing.assert_allclose(weights, hot @ (1000 / (hot.sum(dim=0) + 0.01)), rtol=1e-12)
