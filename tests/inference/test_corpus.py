"""Extraction of a corpus into Parquet: what is in the files, what a second run does, and what a kill costs."""

import json
import os
import signal
import tarfile
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from datasets import load_dataset

from hf_ast import HfASTFeatureExtractor, scene_embeddings
from hf_ast.data import audio
from hf_ast.inference.corpus import extract, work
from hf_ast.inference.corpus.plan import locked
from hf_ast.inference.loading import load_classifier
from hf_ast.inference.tagging import tag
from tests.support import processes
from tests.support.recordings import sine
from tests.support.tiny import tiny_model

BROKEN = {
    "broken.wav": "cannot be read",
    "empty.wav": "no samples",
    "nan.wav": "NaN|not finite",
    "text.wav": "cannot be read",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 recordings of 0.2 to 1.6 s in several formats and rates, and four that cannot be used."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for number in range(36):
        rate = (16000, 22050, 8000)[number % 3]
        shape = (int(rate * (0.2 + 0.04 * number)), 1 + number % 2)
        path = folder / f"part{number % 3}" / f"{number:02d}.{('wav', 'flac', 'ogg')[number % 3]}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(shape), rate)
    (folder / "broken.wav").write_bytes(b"RIFF but nothing of it")
    soundfile.write(folder / "empty.wav", np.zeros(0), 16000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    (folder / "text.wav").write_text("no sound")
    (folder / "notes.txt").write_text("no recording")
    return folder


def names(corpus: Path) -> list[str]:
    return sorted(p.relative_to(corpus).as_posix() for p in corpus.rglob("*.*") if p.suffix != ".txt")


def results(out: Path) -> pandas.DataFrame:
    return pandas.read_parquet(out / "data")


def test_a_row_per_recording_says_what_tagging_it_says(corpus: Path, model: Path, tmp_path: Path) -> None:
    done = extract(
        corpus, tmp_path, model=model, what="both", hop_s=0.25, threshold=0.3, num_workers=2, num_files_per_shard=7
    )
    assert (done.num_files, done.num_done_before, done.num_errors) == (40, 0, 4)
    rows = results(tmp_path)
    assert rows.path.tolist() == names(corpus)
    assert done.audio_s == pytest.approx(rows.end_s.sum())

    classifier, extractor = load_classifier(model)
    labels = json.loads(pq.read_schema(next((tmp_path / "data").iterdir())).metadata[b"hf_ast"])["labels"]
    for row in rows[rows.error.isna()].itertuples():
        # The same windows in other batches, so to float noise
        expected = tag(
            classifier, extractor, corpus / row.path, hop_s=0.25, threshold=0.3, shared_features=False, batch_size=1
        )
        assert (row.start_s, row.end_s) == (0, expected.duration_s)
        np.testing.assert_allclose(row.scores, expected.scores, atol=1e-5)
        heard = [label for label, score in expected.top(5) if score >= 0.3]
        assert row.labels.tolist() == heard
        assert labels == expected.labels
        assert [(e["label"], e["start_s"], e["end_s"]) for e in row.events] == [e[:3] for e in expected.events]
        np.testing.assert_allclose([e["peak"] for e in row.events], [e.peak for e in expected.events], atol=1e-5)
        assert len(row.embedding) == 32


def test_a_row_per_window(corpus: Path, model: Path, tmp_path: Path) -> None:
    extract(corpus, tmp_path, model=model, what="both", rows="windows", num_workers=0)
    rows = results(tmp_path)
    assert "events" not in rows
    assert rows[rows.error.notna()].path.tolist() == [*BROKEN]
    classifier, extractor = load_classifier(model)
    for path, windows in rows[rows.error.isna()].groupby("path"):
        expected = tag(classifier, extractor, corpus / path, batch_size=1)
        np.testing.assert_allclose(np.stack(windows.scores), expected.window_scores, atol=1e-5)
        np.testing.assert_allclose(windows[["start_s", "end_s"]], expected.window_times_s, atol=1e-9)
        if len(windows) == 1:
            waveform, _ = soundfile.read(corpus / path, always_2d=True, dtype="float32")
            if path.endswith(".wav"):  # at the rate of the model
                alone = scene_embeddings(classifier, extractor, torch.from_numpy(waveform.mean(axis=1)))
                np.testing.assert_allclose(np.stack(windows.embedding), alone, atol=1e-5)


def test_recordings_that_cannot_be_used_have_a_row_with_the_reason(corpus: Path, model: Path, tmp_path: Path) -> None:
    done = extract(corpus, tmp_path, model=model, what="embeddings", num_workers=0, batch_size=3)
    rows = results(tmp_path).set_index("path")
    for name, reason in BROKEN.items():
        assert pandas.isna(rows.embedding[name])
        assert pandas.isna(rows.end_s[name])
        assert rows.error.str.contains(reason)[name], rows.error[name]
    assert rows.error.notna().sum() == done.num_errors == 4


def test_every_reader_opens_the_files(corpus: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(corpus, out, model=model, what="both", num_files_per_shard=16, num_workers=0)
    expected = results(out)
    scores = np.stack(expected.scores.dropna())
    with_polars = polars.read_parquet(out / "data")
    with_duckdb = duckdb.sql(f"SELECT * FROM '{out}/data/*.parquet' ORDER BY path").fetchnumpy()
    with_datasets = load_dataset(str(out / "data"), split="train", cache_dir=str(tmp_path / "cache"))
    assert with_polars["path"].to_list() == with_datasets["path"][:] == expected.path.tolist()
    np.testing.assert_array_equal(np.stack(with_polars["scores"].drop_nulls().to_list()), scores)
    np.testing.assert_array_equal([s for s in with_datasets["scores"] if s is not None], scores)
    assert with_duckdb["path"].tolist() == sorted(expected.path)
    assert with_polars.schema["embedding"] == polars.Array(polars.Float32, 32)

    metadata = json.loads(pq.read_schema(out / "data" / "shard-00001-of-00003.parquet").metadata[b"hf_ast"])
    assert metadata["source"]["location"] == str(corpus)
    assert metadata["settings"]["window_s"] == pytest.approx(0.515)
    assert metadata["settings"]["revision"] == expected.revision[0]
    assert set(expected.model) == {str(model)}


def test_a_second_run_does_what_is_left(corpus: Path, model: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": model, "num_files_per_shard": 8, "num_workers": 0}
    extract(corpus, tmp_path, **settings)
    before = results(tmp_path)
    files = sorted((tmp_path / "data").iterdir())
    files[2].unlink()
    made = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    (tmp_path / "tmp" / "shard-00002-of-00005.parquet.killed").write_bytes(b"half of it")
    done = extract(corpus, tmp_path, **settings)
    assert (done.num_files, done.num_done_before) == (40, 32)
    assert {file: file.stat().st_mtime_ns for file in made} == made
    assert sorted((tmp_path / "data").iterdir()) == files
    assert not any((tmp_path / "tmp").iterdir())
    # The recordings of a shard meet in other batches
    pandas.testing.assert_frame_equal(
        results(tmp_path).drop(columns=["scores", "events"]), before.drop(columns=["scores", "events"])
    )
    assert extract(corpus, tmp_path, **settings).num_done_before == 40


def test_recordings_that_could_not_be_read_are_done_again_when_asked(
    corpus: Path, model: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    samples = 0.1 * np.random.default_rng(0).standard_normal(8000)
    for name in "abcd":
        soundfile.write(source / f"{name}.wav", samples, 16000)
    (source / "c.wav").write_bytes(b"")
    settings: dict[str, Any] = {"model": model, "num_files_per_shard": 2, "num_workers": 0}
    assert extract(source, out, **settings).num_errors == 1
    soundfile.write(source / "c.wav", samples, 16000)
    assert extract(source, out, **settings).num_done_before == 4
    done = extract(source, out, **settings, retry_errors=True)
    assert (done.num_done_before, done.num_errors) == (2, 0)
    assert results(out).error.isna().all()


def test_a_folder_has_results_of_one_kind(corpus: Path, model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for name in "ab":
        soundfile.write(source / f"{name}.wav", np.full(8000, 0.1), 16000)
    extract(source, out, model=model, num_workers=0)
    other_model = tmp_path / "other"
    tiny_model(seed=1).save_pretrained(other_model)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(other_model)
    for change, said in (
        ({"what": "both"}, "what was 'tags' and is 'both' now"),
        ({"hop_s": 0.1, "threshold": 0.6}, "hop_s was 0.515 and is 0.1 now; threshold was 0.5 and is 0.6 now"),
        ({"model": other_model}, "revision was 'sha256:"),
        ({"num_files_per_shard": 3}, "num_files_per_shard was 64 and is 3 now"),
        ({"source": corpus}, "location was"),
    ):
        with pytest.raises(ValueError, match=said):
            extract(**{"source": source, "out": out, "model": model, "num_workers": 0} | change)
    (source / "b.wav").rename(source / "c.wav")
    with pytest.raises(ValueError, match=r"1 recordings are new, such as \['c.wav'\]; 1 recordings are gone"):
        extract(source, out, model=model)
    (out / "plan.parquet").unlink()
    with pytest.raises(ValueError, match="but no plan"):
        extract(source, out, model=model)


def test_two_runs_do_not_meet_in_a_folder(corpus: Path, model: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ValueError, match="by another run"):
        extract(corpus, tmp_path, model=model, num_workers=0)
    assert not (tmp_path / "plan.parquet").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"what": "text"}, "what='text'"),
        ({"rows": "frames"}, "rows='frames'"),
        ({"engine": "spark"}, "engine='spark'"),
        ({"threshold": 0}, "threshold=0"),
        ({"num_files_per_shard": 0}, "num_files_per_shard=0"),
        ({"window_s": 5}, "window_s=5"),
        ({"hop_s": 1}, "hop"),
        ({"num_actors": 2}, "num_actors=2"),
        ({"split": "train"}, "is not a data set"),
        ({"out": "s3://bucket/results"}, "is a URL"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], said: str, corpus: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        extract(**{"source": corpus, "out": tmp_path / "out", "model": model} | change)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_shard(corpus: Path, model: Path, tmp_path: Path) -> None:
    def run() -> None:
        processes.limit_file_size(4000)  # the plan fits, a shard does not
        extract(corpus, tmp_path, model=model, what="both", num_files_per_shard=8, num_workers=0)

    assert processes.exit_code(processes.start(run)) == 1
    assert not any((tmp_path / "data").iterdir())
    assert not any((tmp_path / "tmp").iterdir())
    extract(corpus, tmp_path, model=model, what="both", num_files_per_shard=8, num_workers=0)
    assert results(tmp_path).path.tolist() == names(corpus)


def test_killed_at_any_moment(corpus: Path, model: Path, tmp_path: Path) -> None:
    def run() -> None:
        extract(corpus, tmp_path, model=model, num_files_per_shard=2, num_workers=1, batch_size=1)

    data = tmp_path / "data"
    for num_done in (1, 6, 11):
        process = processes.start(run)
        while not data.exists() or len(list(data.iterdir())) < num_done:
            assert process.is_alive()
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert len(list(data.iterdir())) < 20, "it was done before it could be killed"
        for file in data.iterdir():  # what is there is whole
            assert len(pq.read_table(file)) == 2
    run()
    assert results(tmp_path).path.tolist() == names(corpus)


def tone(path: Path, duration_s: float = 1.0, frequency_hz: float = 440.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sine(16000, duration_s, frequency_hz), 16000)


@pytest.mark.parametrize("rows", ["files", "windows"])
def test_segments_of_a_table_are_rows(rows: str, model: Path, tmp_path: Path) -> None:
    times = [(0.0, 0.4), (0.4, 1.5), (1.6, 2.5)]
    waveform = 0.1 * np.random.default_rng(0).standard_normal(32000)
    soundfile.write(tmp_path / "long.wav", waveform, 16000)
    tone(tmp_path / "whole.wav")
    lines = [f"long.wav,{start_s},{end_s},x" for start_s, end_s in times] + ["long.wav,5,6,x", "gone.wav,0,1,x"]
    (tmp_path / "list.csv").write_text("\n".join(["path,start,end,label", *lines]))
    out = tmp_path / "out"
    done = extract(tmp_path / "list.csv", out, model=model, what="both", rows=rows, num_workers=0)
    assert (done.num_files, done.num_errors, done.num_warnings) == (5, 2, 1)
    assert done.audio_s == pytest.approx(0.4 + 1.1 + 0.4, abs=1e-6)
    found = results(out)
    classifier, extractor = load_classifier(model)
    for start_s, end_s in times:
        samples = waveform[round(start_s * 16000) : round(end_s * 16000)].astype(np.float32)
        expected = tag(classifier, extractor, samples, sampling_rate=16000, batch_size=1)
        part = found[found.error.isna() & (found.start_s >= start_s - 1e-9) & (found.end_s <= end_s + 1e-9)]
        if rows == "windows":
            np.testing.assert_allclose(part[["start_s", "end_s"]], expected.window_times_s + start_s, atol=1e-6)
            np.testing.assert_allclose(np.stack(part.scores), expected.window_scores, atol=1e-4)
        else:
            assert part.start_s.tolist() == [start_s]
            # WAV stores 16 bits, which is where the scores differ
            np.testing.assert_allclose(np.stack(part.scores)[0], expected.scores, atol=1e-4)
            for event in part.events.iloc[0]:
                assert start_s <= event["start_s"] < event["end_s"] <= end_s + 1e-6
    failed = found[found.error.notna()]
    assert failed[["path", "start_s", "end_s"]].to_numpy().tolist() == [["long.wav", 5, 6], ["gone.wav", 0, 1]]
    # The last one ends behind its recording
    (warnings,) = found[found.warnings.notna() & found.error.isna()].warnings.iloc[:1]
    assert "ends at 2.00 s, before the end of the part, 2.50 s" in warnings[0]
    assert extract(tmp_path / "list.csv", out, model=model, what="both", rows=rows).num_done_before == 5


def test_damage_that_leaves_something_to_read_is_a_warning(model: Path, tmp_path: Path) -> None:
    tone(tmp_path / "in" / "whole.wav")
    tone(tmp_path / "in" / "cut.wav")
    cut = tmp_path / "in" / "cut.wav"
    cut.write_bytes(cut.read_bytes()[:20044])
    done = extract(tmp_path / "in", tmp_path / "out", model=model, num_workers=0)
    assert (done.num_errors, done.num_warnings) == (0, 1)
    rows = results(tmp_path / "out").set_index("path")
    assert rows.warnings["whole.wav"] is None
    (warning,) = rows.warnings["cut.wav"]
    assert "cut.wav" in warning
    assert rows.end_s["cut.wav"] == pytest.approx(10_000 / 16000)


def test_names_that_are_not_utf8_have_rows(model: Path, tmp_path: Path) -> None:
    tone(tmp_path / "in" / "plain.wav")
    for name in (b"caf\xe9.wav", b"broken\xff.wav"):
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes(
            (tmp_path / "in" / "plain.wav").read_bytes() if b"caf" in name else b"no recording"
        )
    out = tmp_path / "out"
    for _ in range(2):  # the second run finds the plan of the first one
        done = extract(tmp_path / "in", out, model=model, num_workers=0)
    assert done.num_done_before == 3
    rows = results(out).set_index("path")
    assert rows.error.isna().to_dict() == {"broken\\udcff.wav": False, "caf\\udce9.wav": True, "plain.wav": True}
    assert "broken\\udcff.wav" in rows.error["broken\\udcff.wav"]
    np.testing.assert_array_equal(rows.scores["caf\\udce9.wav"], rows.scores["plain.wav"])


def test_an_error_of_the_model_costs_its_own_row(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        tone(tmp_path / "in" / f"{number}.wav", 0.3 + 0.1 * number)
    sizes: list[int] = []
    clip_features = work.clip_features

    def fail(extractor: Any, clips: list[np.ndarray], **settings: Any) -> Any:
        sizes.append(len(clips))
        if any(len(clip) == 8000 for clip in clips):
            raise RuntimeError("too much for the kernel")
        return clip_features(extractor, clips, **settings)

    monkeypatch.setattr(work, "clip_features", fail)
    done = extract(tmp_path / "in", tmp_path / "out", model=model, num_workers=0, batch_size=8)
    assert done.failed == [("2.wav", "RuntimeError: too much for the kernel")]
    # The two longest recordings have two windows; after the batch, each window is alone
    assert sizes == [7, 1, 1, 1, 1, 1, 1, 1]
    rows = results(tmp_path / "out").set_index("path")
    assert rows.error.notna().to_dict() == {f"{number}.wav": number == 2 for number in range(5)}
    expected = tag(*load_classifier(model), tmp_path / "in" / "3.wav", batch_size=1)
    np.testing.assert_allclose(rows.scores["3.wav"], expected.scores, atol=1e-5)


def test_outputs_that_are_not_finite_are_an_error(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        tone(tmp_path / "in" / f"{name}.wav", 0.5)
    describe = work.describe

    def break_one(model: Any, inputs: Any, what: str) -> Any:
        scores = describe(model, inputs, what)[0].clone()
        scores[1] = float("nan")
        return scores, None

    monkeypatch.setattr(work, "describe", break_one)
    extract(tmp_path / "in", tmp_path / "out", model=model, num_workers=0)
    rows = results(tmp_path / "out").set_index("path")
    assert rows.error["b.wav"] == "The model's outputs are not finite from 0 s on."
    assert rows.error.notna().sum() == 1


@pytest.mark.parametrize("error", [MemoryError, ImportError, KeyboardInterrupt])
def test_errors_that_concern_all_recordings_end_the_run(
    error: type[BaseException], corpus: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(work, "describe", fail)
    with pytest.raises(error):
        extract(corpus, tmp_path, model=model, num_workers=0)
    assert not any((tmp_path / "data").iterdir())


def test_a_decoder_that_crashes_is_named_with_its_recording(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        tone(tmp_path / "in" / f"{name}.wav")
    stream = audio.stream

    def crash(recording: Any, *arguments: Any, **settings: Any) -> Any:
        if str(recording).endswith("b.wav"):
            os.kill(os.getpid(), signal.SIGKILL)
        return stream(recording, *arguments, **settings)

    monkeypatch.setattr(audio, "stream", crash)
    with pytest.raises(ChildProcessError, match=r"died while it read \['b.wav'\].*take the recording out"):
        extract(tmp_path / "in", tmp_path / "out", model=model, num_workers=1)
    monkeypatch.undo()
    extract(tmp_path / "in", tmp_path / "out", model=model, num_workers=0)
    assert results(tmp_path / "out").error.isna().tolist() == [True] * 3


def test_what_cannot_be_searched_has_a_row(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tone(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "gone").symlink_to("nowhere")
    done = extract(tmp_path / "in", tmp_path / "out", model=model, num_workers=2)
    assert [name for name, _ in done.failed] == ["gone"]
    rows = results(tmp_path / "out").set_index("path")
    assert rows.error["gone"] == "OSError: it cannot be opened (No such file or directory)"


def test_shards_have_the_rows_of_their_files(corpus: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(3):
        with tarfile.open(
            tmp_path / "shards" / f"shard-{number:03d}.tar{'.gz' * (number == 2)}", "w:gz" if number == 2 else "w"
        ) as archive:
            for name in names(corpus)[number::3]:
                archive.add(corpus / name, name)
    settings: dict[str, Any] = {"model": model, "what": "both", "num_files_per_shard": 9}
    extract(corpus, tmp_path / "files", **settings, num_workers=0)
    done = extract(tmp_path / "shards", tmp_path / "members", **settings, num_workers=2)
    assert done.num_files == 40
    expected, found = results(tmp_path / "files"), results(tmp_path / "members")
    found["path"] = found.path.str.replace(r"^shard-\d+\.tar(\.gz)?/", "", regex=True)
    found = found.set_index("path").loc[expected.path].reset_index()
    good = expected.error.isna()
    assert found.error.notna().tolist() == (~good).tolist()
    np.testing.assert_allclose(np.stack(found.scores[good]), np.stack(expected.scores[good]), atol=1e-5)
    np.testing.assert_array_equal(found.end_s[good], expected.end_s[good])


def test_plans_of_older_versions_are_refused(model: Path, tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    out = tmp_path / "out"
    extract(tmp_path / "in", out, model=model, num_workers=0)
    plan = pq.read_table(out / "plan.parquet")
    pq.write_table(plan.select(["shard", "path"]), out / "plan.parquet")
    with pytest.raises(ValueError, match=r"was begun by another version of hf_ast .*give another folder"):
        extract(tmp_path / "in", out, model=model, num_workers=0)
