"""Recordings without labels, from any source and from several."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, DatasetDict

from hf_ast import HfASTFeatureExtractor
from hf_ast.data.labelled import read_data
from hf_ast.training.crops import ClipMasks, Crops, apportioned
from hf_ast.training.mixtures import read_mixture
from hf_ast.training.pretraining import pretrain
from tests.support.recordings import sine
from tests.support.tiny import SIZE, tiny_ssast_config

EXTRACTOR = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sines of 0.5 s, of which one is not audio, and one without a sample."""
    folder = tmp_path_factory.mktemp("speech")
    for number in range(12):
        soundfile.write(folder / f"{number:02d}.wav", sine(16000, 0.5, 100.0 * (number + 1)), 16000)
    (folder / "broken.wav").write_text("no audio")
    soundfile.write(folder / "short.wav", sine(16000, 0.0), 16000)
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sines of 2 s at another rate."""
    folder = tmp_path_factory.mktemp("music")
    for number in range(3):
        soundfile.write(folder / f"{number}.flac", sine(22050, 2.0, 1000.0 * (number + 1)), 22050)
    return folder


def manifest(speech: Path, path: Path) -> Path:
    path.write_text("\n".join(["path", *(f"{file.name}" for file in sorted(speech.iterdir()))]))
    return path


def data_set(speech: Path) -> Dataset:
    files = [str(path) for path in sorted(speech.iterdir())]
    return Dataset.from_dict({"audio": files, "text": ["?"] * len(files)}).cast_column("audio", Audio())


def with_bytes(speech: Path) -> Dataset:
    files = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(speech.iterdir())]
    return Dataset.from_dict({"sound": files}).cast_column("sound", Audio())


@pytest.mark.parametrize("kind", ["folder", "manifest", "data set in a folder", "data set in memory", "with paths"])
def test_every_source_gives_the_same_crops(speech: Path, tmp_path: Path, kind: str) -> None:
    more: dict[str, Any] = {}
    source: Any = speech
    if kind == "manifest":
        source, more = manifest(speech, tmp_path / "files.csv"), {"audio_folder": speech}
    elif kind == "data set in a folder":
        source = tmp_path / "set"
        with_bytes(speech).save_to_disk(source)
    elif kind == "data set in memory":
        source = with_bytes(speech)
    elif kind == "with paths":
        source = data_set(speech)
    mixture = read_mixture(source, **more)
    skipped = {Path(name).name: reason for name, reason in mixture.parts[0].skipped.items()}
    assert skipped.keys() == {"broken.wav", "short.wav"}
    assert "no samples" in skipped["short.wav"]
    lines = list(mixture.describe())
    assert "11 recordings (0.00153 h) to train on, 1 to evaluate on" in lines[0]
    assert lines[1] == "skipped: 2 files"

    expected = read_mixture(speech)
    assert [Path(clip.name).name for clip in mixture.parts[0].clips] == [clip.name for clip in expected.parts[0].clips]
    masks = ClipMasks(tiny_ssast_config(mask_ratio=0.5))
    for evaluation in (False, True):
        found, wanted = (Crops(one, EXTRACTOR, masks, evaluation=evaluation) for one in (mixture, expected))
        assert len(found) == len(wanted) == (1 if evaluation else 11)
        for index in (0, len(found) - 1):
            assert found[index].keys() == {"input_values", "attention_mask", "mask_indices"}
            for name, value in wanted[index].items():
                assert torch.equal(found[index][name], value)


def test_a_data_set_in_memory_can_be_fine_tuned_on_as_well(speech: Path) -> None:
    rows = with_bytes(speech).add_column("label", ["dog", "cat"] * 7)
    data = read_data(rows)
    assert data.labels == ["cat", "dog"]
    assert data.source.location == "data set in memory"


@pytest.mark.parametrize(("weights", "share"), [([3, 1], 0.75), ([0.1, 0.3], 0.25), ([1, 11], 1 / 12)])
def test_shares_of_draws_are_the_weights(speech: Path, music: Path, weights: list[float], share: float) -> None:
    mixture = read_mixture([speech, music], weights=weights, num_eval=0)
    crops = Crops(mixture, EXTRACTOR)
    # 12 recordings of one crop, and 3 of about four
    assert len(crops) == 24
    drawn = []
    for epoch in range(40):
        crops.set_epoch(epoch)
        numbers = crops.numbers()
        assert abs((numbers < 12).sum() - share * 24) < 1
        drawn.append(numbers)
    assert set(np.concatenate(drawn)) == set(range(15))
    assert any((drawn[0] != other).any() for other in drawn[1:])
    # Among the recordings of a source as their durations are, to within the error of 40 draws
    of_music = np.bincount(np.concatenate(drawn), minlength=15)[12:]
    np.testing.assert_allclose(of_music / of_music.sum(), 1 / 3, atol=0.04)
    # Crop 0 is of speech, the last one of music
    crops.set_epoch(0)
    waveform = crops.waveform(len(crops) - 1)
    spectrum = np.abs(np.fft.rfft(waveform))
    frequency_hz = spectrum.argmax() * 16000 / len(waveform)
    assert frequency_hz == pytest.approx(1000.0 * (drawn[0][-1] - 11), abs=3)


def test_without_weights_every_crop_is_in_an_epoch_once(speech: Path, music: Path) -> None:
    mixture = read_mixture([speech, music], num_eval=0)
    numbers = Crops(mixture, EXTRACTOR).numbers()
    assert numbers.tolist() == [*range(12), *(number for number in (12, 13, 14) for _ in range(4))]


def test_parts_of_a_number() -> None:
    assert apportioned(10, [0.5, 0.25, 0.25]) == [5, 3, 2]
    assert apportioned(7, [1 / 3, 2 / 3]) == [2, 5]
    shares = np.random.default_rng(0).dirichlet(np.ones(7))
    parts = apportioned(1000, list(shares))
    assert sum(parts) == 1000
    assert (np.abs(parts - 1000 * shares) < 1).all()


def test_splits_that_a_source_names(speech: Path, tmp_path: Path) -> None:
    rows = with_bytes(speech).select(range(12))
    parts = DatasetDict(
        {"train.clean.100": rows.select(range(8)), "validation": rows.select([8, 9]), "test": rows.select([10, 11])}
    )
    mixture = read_mixture(parts, num_eval=1)
    part = mixture.parts[0]
    assert [Path(clip.name).name for clip in part.of("train")] == [f"{number:02d}.wav" for number in range(8)]
    assert [Path(clip.name).name for clip in part.of("validation")] <= ["08.wav", "09.wav"]
    assert mixture.num_left_out == [3]
    assert "3 left out, which the source calls validation or test" in next(mixture.describe())
    # Without the column all are used
    assert len(read_mixture(parts, split_column="").parts[0].of("train")) == 11


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": [1]}, r"weights=\[1\] must hold one for each of the 2 sources"),
        ({"weights": [1, -1]}, r"weights=\[1, -1\] must be positive numbers"),
        ({"weights": [1, float("nan")]}, "must be positive numbers"),
        ({"subset": "clean"}, "subset='clean' has no meaning, as no source of data is a data set"),
        ({"num_eval": -1}, "num_eval=-1 must not be negative"),
    ],
)
def test_wrong_arguments(speech: Path, music: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_mixture([speech, music], **settings)


def test_sources_that_cannot_be_used(speech: Path, music: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data is empty"):
        read_mixture([])
    with pytest.raises(ValueError, match="is a int, but must be a path, the id of a data set"):
        read_mixture([speech, 3])
    (tmp_path / "a.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"holds no readable recording to train on \(1 skipped, 'a.wav': "):
        read_mixture([speech, tmp_path])
    with pytest.raises(ValueError, match="none of the 24 crops of an epoch; give it a larger weight"):
        Crops(read_mixture([speech, music], weights=[1, 1e-3], num_eval=0), EXTRACTOR)
    with pytest.raises(ValueError, match="must be given to read_mixture"):
        pretrain(read_mixture(speech), tmp_path / "out", weights=[1.0])


def test_reports_to_tensorboard(speech: Path, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    settings = {"duration_s": 0.48, "num_steps": 1, "batch_size": 2, "num_workers": 0, "eval_every": 1}
    pretrain(
        [speech, music], tmp_path / "out", weights=[1, 1], report_to="tensorboard", bf16=True,
        config={"num_mel_bins": 32, **SIZE}, **settings,
    )  # fmt: skip
    written = [path for path in tmp_path.rglob("events.out.tfevents.*") if b"reconstruction_loss" in path.read_bytes()]
    assert written
