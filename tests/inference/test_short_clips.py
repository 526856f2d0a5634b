"""Clips from one sample on, below a frame and below a patch: the same scores in every function and batch."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import pytest
import soundfile
import torch
from torch import Tensor
from transformers import DataCollatorWithPadding, pipeline

from hf_ast import (
    HfASTFeatureExtractor,
    PaSSTFeatureExtractor,
    load_classifier,
    load_encoder,
    scene_embeddings,
    score_clips,
    tag,
    timestamp_embeddings,
)
from hf_ast.cli import main
from hf_ast.data.labelled import LabelledData, read_data
from hf_ast.demo.analysis import analyse
from hf_ast.inference.corpus import extract
from hf_ast.inference.hear import get_scene_embeddings, get_timestamp_embeddings, load_model
from hf_ast.inference.streaming import StreamTagger
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.training.collation import TrainingCollator
from hf_ast.training.evaluate import score_recordings
from hf_ast.training.finetune import finetune
from hf_ast.training.presets import PRESETS
from hf_ast.training.pretraining import pretrain
from tests.support.classifiers import FAMILIES, tiny_classifier
from tests.support.tiny import SIZE

# From a sample to 200 ms at 16 kHz, around the FFTs and the patch of the released models; PaSST has 32 kHz
LENGTHS = (1, 2, 100, 399, 400, 513, 514, 1000, 1600, 2559, 2560, 3200)
PASST_LENGTHS = (*LENGTHS[:2], *(2 * length for length in LENGTHS[2:5]), 513, 514, *(2 * n for n in LENGTHS[6:]))
BATCH_SIZES = (1, 2, 5)
# Sums of other lengths, in float32
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def slow(family: str) -> Any:
    """A family whose code another one runs as well in this test."""
    return pytest.param(family, marks=pytest.mark.slow)


class Case(NamedTuple):
    """A model of a family, in memory and as a folder, and its short clips, in memory and as files."""

    model: Any
    extractor: SpectrogramFeatureExtractor
    folder: Path
    clips: list[np.ndarray]
    recordings: Path  # in folders of two classes
    names: list[str]
    expected: Tensor  # scores of each clip, alone

    @property
    def long(self) -> np.ndarray:
        """A clip that fills the model's input."""
        return noise(self.extractor.max_samples, seed=99)

    def files(self) -> list[str]:
        return [str(self.recordings / name) for name in self.names]

    def data(self) -> LabelledData:
        return read_data(self.recordings)

    def rows(self, by_name: dict[str, Any]) -> list[Any]:
        """Values by the names of the recordings, in the order of the clips."""
        return [by_name[name] for name in self.names]


def noise(num_samples: int, seed: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp(request.param)
    labels = ["hiss", "hum", "c", "d", "e"]
    changes: Any = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    model, extractor = tiny_classifier(request.param, **changes)
    extractor.min_length = model.config.min_frames
    for part in (model, extractor):
        part.save_pretrained(root / "model")
    lengths = PASST_LENGTHS if request.param == "passt" else LENGTHS
    clips = [noise(length, seed) for seed, length in enumerate(lengths)]
    names = [f"{labels[index % 2]}/{index:02d}.wav" for index in range(len(clips))]
    for name, clip in zip(names, clips, strict=True):
        (root / "recordings" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "recordings" / name, clip, extractor.sampling_rate, subtype="FLOAT")
    with torch.inference_mode():
        alone = [model(**inputs(extractor, [clip])).logits.softmax(-1)[0] for clip in clips]
    expected = torch.stack(alone)
    assert expected.isfinite().all()
    return Case(model, extractor, root / "model", clips, root / "recordings", names, expected)


def inputs(extractor: SpectrogramFeatureExtractor, clips: Sequence[np.ndarray], **settings: Any) -> Any:
    return extractor(list(clips), extractor.sampling_rate, return_tensors="pt", **settings)


def batches(clips: Sequence[np.ndarray], long: np.ndarray) -> list[list[np.ndarray]]:
    """For each clip a batch of it and a longer one, and one of five clips; it is the first of each."""
    return [[clip, long] for clip in clips] + [[clip, long, clips[0], long[:9000], clips[-1]] for clip in clips]


@torch.inference_mode()
def test_a_clip_has_the_same_scores_in_a_batch(case: Case) -> None:
    for padding in (None, "longest"):
        for index, batch in enumerate(batches(case.clips, case.long)):
            alone = inputs(case.extractor, batch[:1], padding=padding)
            expected = case.model(**alone).logits
            found = case.model(**inputs(case.extractor, batch, padding=padding)).logits[:1]
            torch.testing.assert_close(found, expected, **CLOSE)
            if padding is None:
                torch.testing.assert_close(found[0].softmax(-1), case.expected[index % len(case.clips)], **CLOSE)


@pytest.mark.parametrize("case", [slow("ast"), "ssast", "passt"], indirect=True)
@torch.inference_mode()
def test_data_collators_pad_to_a_patch(case: Case) -> None:
    """Spectrograms as a script makes them, without padding and mask."""
    collate = DataCollatorWithPadding(case.extractor)
    own = TrainingCollator(case.extractor, num_labels=5, multi_label=False)
    for batch in [[clip] for clip in case.clips[::2]] + batches(case.clips[::3], case.long):
        rows = [{"input_values": case.extractor(clip, case.extractor.sampling_rate, padding=False)["input_values"][0]}
                for clip in batch]  # fmt: skip
        expected = case.model(**inputs(case.extractor, batch[:1], padding="longest")).logits
        torch.testing.assert_close(case.model(**collate(rows)).logits[:1], expected, **CLOSE)
        expected = case.model(**inputs(case.extractor, batch[:1])).logits
        waveforms = own([{"waveform": clip} for clip in batch])
        torch.testing.assert_close(case.model(**waveforms).logits[:1], expected, **CLOSE)


def streamed(case: Case, batch_size: int) -> list[Tensor]:
    tagger = StreamTagger(case.model, case.extractor, batch_size=batch_size)
    return [(tagger.push(clip) + tagger.flush())[0].scores for clip in case.clips]


def extracted(case: Case, batch_size: int, out: Path) -> list[Any]:
    done = extract(case.recordings, out / str(batch_size), model=case.folder, batch_size=batch_size, num_workers=0)
    assert done.num_errors == 0
    rows = pandas.read_parquet(out / str(batch_size) / "data")
    return case.rows(dict(zip(rows.path, rows.scores, strict=True)))


def evaluated(case: Case, batch_size: int) -> list[Any]:
    data = case.data()
    assert data.skipped == {}
    scores, failures = score_recordings(case.model, case.extractor, data, data.clips, batch_size=batch_size)
    assert failures == {}
    return case.rows(dict(zip((clip.name for clip in data.clips), scores, strict=True)))


cached_pipeline = cache(pipeline)


def piped(case: Case, batch_size: int, task: str) -> list[Tensor]:
    run = cached_pipeline(task, str(case.folder))
    results = run([{"array": c, "sampling_rate": run.feature_extractor.sampling_rate} for c in case.clips],
                  batch_size=batch_size, top_k=5)  # fmt: skip
    number = case.model.config.label2id
    found = torch.zeros(len(results), 5)
    for row, result in zip(found, results, strict=True):
        for item in result["scores"] if task == "audio-tagging" else result:
            row[number[item["label"]]] = item["score"]
    return list(found)


FUNCTIONS: dict[str, Callable[[Case, int, Path], Sequence[Any]]] = {
    "tag": lambda case, size, _: [tag(case.model, case.extractor, c, batch_size=size).scores for c in case.clips],
    "stream": lambda case, size, _: streamed(case, size),
    "extract": extracted,
    "evaluate": lambda case, size, _: evaluated(case, size),
    "audio-classification": lambda case, size, _: piped(case, size, "audio-classification"),
    "audio-tagging": lambda case, size, _: piped(case, size, "audio-tagging"),
}


@pytest.mark.parametrize("case", ["ast", slow("ssast"), "passt"], indirect=True)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_gives_the_scores_of_the_clip_alone(case: Case, name: str, tmp_path: Path) -> None:
    for batch_size in BATCH_SIZES:
        found = torch.stack([torch.tensor(row.tolist()) for row in FUNCTIONS[name](case, batch_size, tmp_path)])
        torch.testing.assert_close(found, case.expected, **CLOSE)


def test_score_clips_gives_the_scores_of_the_clip_without_padding(case: Case) -> None:
    with torch.inference_mode():
        alone = [case.model(**inputs(case.extractor, [clip], padding="longest")).logits for clip in case.clips]
    expected = torch.cat(alone).softmax(-1)
    clips = [*case.clips, case.long, case.long]
    for batch_size in BATCH_SIZES:
        found = score_clips(case.model, case.extractor, clips, batch_size=batch_size, max_padding=1.0)
        torch.testing.assert_close(found[: len(case.clips)], expected, **CLOSE)


@pytest.mark.parametrize("case", [slow("ast"), "ssast", "passt"], indirect=True)
def test_embeddings_of_a_clip_do_not_depend_on_its_batch(case: Case) -> None:
    encoder, extractor = load_encoder(case.folder)
    assert extractor.min_length == encoder.config.min_frames
    hear = load_model(str(case.folder))
    for clip in case.clips[::2]:
        rows = torch.from_numpy(np.stack([clip, *(noise(len(clip), seed) for seed in range(4))]))
        scene = scene_embeddings(encoder, extractor, clip)
        moments, times = timestamp_embeddings(encoder, extractor, clip)
        assert scene.shape == (1, 32)
        assert moments.shape == (1, 1 + len(clip) // (extractor.sampling_rate // 20), 32)
        assert times.shape == moments.shape[:2]
        assert scene.isfinite().all()
        assert moments.isfinite().all()
        torch.testing.assert_close(scene_embeddings(encoder, extractor, rows)[:1], scene, **CLOSE)
        torch.testing.assert_close(get_scene_embeddings(rows[:2], hear)[:1], scene, **CLOSE)
        torch.testing.assert_close(timestamp_embeddings(encoder, extractor, rows)[0][:1], moments, **CLOSE)
        torch.testing.assert_close(get_timestamp_embeddings(rows[:2], hear)[0][:1], moments, **CLOSE)


@pytest.mark.parametrize("case", ["ast", slow("ssast"), slow("passt")], indirect=True)
def test_commands_label_short_recordings(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(case.folder)]
    names = list(case.model.config.id2label.values())
    assert main(["classify", *case.files(), *model, "--top-k", "5", "--json"]) == 0
    for row, expected in zip(json.loads(capsys.readouterr().out), case.expected, strict=True):
        scores = {item["label"]: item["score"] for item in row["labels"]}
        assert [scores[name] for name in names] == pytest.approx(expected.tolist(), abs=1e-5)
    assert main(["tag", *case.files(), *model, "--threshold", "1e-9", "--json"]) == 0
    for row, expected in zip(json.loads(capsys.readouterr().out), case.expected, strict=True):
        peaks = {event["label"]: event["peak"] for event in row["events"]}
        assert [peaks[name] for name in names] == pytest.approx(expected.tolist(), abs=1e-5)
    for mode in ([], ["--moments"]):
        out = tmp_path / f"embeddings{len(mode)}.npz"
        assert main(["embed", *case.files(), *model, "--out", str(out), *mode]) == 0
        assert set(np.load(out)["path"]) == set(case.files())
        assert np.isfinite(np.load(out)["embedding"]).all()
    capsys.readouterr()
    assert main(["evaluate", str(case.folder), str(case.recordings), "--batch-size", "5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["num_recordings"], result["skipped"], result["failed"]) == (len(case.clips), {}, [])


@pytest.mark.slow
def test_fine_tuning_on_short_recordings(case: Case, tmp_path: Path) -> None:
    preset = PRESETS["fsd50k" if isinstance(case.extractor, PaSSTFeatureExtractor) else "speech-commands"]
    done = finetune(
        case.data(), tmp_path / "out", model=case.folder, preset=preset, num_epochs=1, batch_size=5, num_workers=0
    )
    assert done.evaluation is not None
    assert done.evaluation.failed == {}
    assert all(parameter.isfinite().all() for parameter in done.model.parameters())
    tuned, extractor = load_classifier(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert saved["min_length"] == extractor.min_length == tuned.config.min_frames
    for file in case.files():
        assert tag(tuned, extractor, file).scores.isfinite().all()


@pytest.mark.parametrize("case", [slow("ast"), "ssast", slow("passt")], indirect=True)
def test_fine_tuning_where_all_recordings_are_shorter_than_a_patch(case: Case, tmp_path: Path) -> None:
    for number in range(8):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(1 + 40 * number, number), case.extractor.sampling_rate, subtype="FLOAT")
    done = finetune(read_data(tmp_path / "data"), tmp_path / "out", model=case.folder, num_epochs=1, num_workers=0)
    assert done.model.config.max_length >= done.model.config.min_frames
    assert all(parameter.isfinite().all() for parameter in done.model.parameters())


def test_pretraining_on_short_recordings(tmp_path: Path) -> None:
    for index, length in enumerate((*LENGTHS, 16000, 8000)):
        soundfile.write(tmp_path / f"{index}.wav", noise(length, index), 16000, subtype="FLOAT")
    model = pretrain(
        tmp_path, tmp_path / "out", num_steps=3, batch_size=5, duration_s=0.96, num_workers=0, kind="frame",
        config={"num_mel_bins": 32, **SIZE},
    )  # fmt: skip
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert HfASTFeatureExtractor.from_pretrained(tmp_path / "out").min_length == 2


@pytest.mark.parametrize("case", ["ast", slow("ssast"), slow("passt")], indirect=True)
def test_the_page_shows_short_recordings(case: Case) -> None:
    for file, expected in list(zip(case.files(), case.expected, strict=True))[::6]:
        torch.testing.assert_close(analyse(file, case.folder).tagging.scores, expected, **CLOSE)


def test_zeros_behind_a_clip_shorter_than_an_fft_change_nothing() -> None:
    for extractor in (HfASTFeatureExtractor(), PaSSTFeatureExtractor()):
        for length in (1, 100, extractor.min_samples - 1):
            clip = noise(length, length)
            padded = np.pad(clip, (0, extractor.min_samples - length))
            num_frames = extractor.num_frames(length)
            short = inputs(extractor, [clip], padding="longest")
            assert short["attention_mask"].tolist() == [[1] * num_frames + [0] * (16 - num_frames)]
            whole = inputs(extractor, [padded], padding=False)["input_values"]
            torch.testing.assert_close(short["input_values"][:, :num_frames], whole[:, :num_frames], atol=0, rtol=0)
            padding = short["input_values"][:, num_frames:]
            torch.testing.assert_close(padding, torch.full_like(padding, extractor.padding_value))


def test_a_folder_from_before_the_field_gets_the_patch_of_its_model(tmp_path: Path) -> None:
    model, extractor = tiny_classifier("passt", patch_size=(8, 20), max_length=50)
    for part in (model, extractor):
        part.save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    assert settings.pop("min_length") == 16
    file.write_text(json.dumps(settings))
    _, loaded = load_classifier(tmp_path)
    assert isinstance(loaded, PaSSTFeatureExtractor)
    assert loaded.min_length == 20
    assert tag(model, loaded, noise(100, 0)).scores.isfinite().all()
    loaded.save_pretrained(tmp_path)
    assert json.loads(file.read_text())["min_length"] == 20
