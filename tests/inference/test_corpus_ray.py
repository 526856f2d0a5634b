"""Extraction on Ray, while a worker dies."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
import psutil
import pytest
import ray
import soundfile

from hf_ast.inference.corpus import extract


@pytest.fixture
def ray_with_two_processors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("ray_with_two_processors")
def test_every_recording_is_there_once_when_a_worker_dies(model_folder: Path, tmp_path: Path) -> None:
    source, on_ray, here = tmp_path / "source", tmp_path / "ray", tmp_path / "here"
    source.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        soundfile.write(source / f"{number:02d}.wav", 0.1 * rng.standard_normal(16000), 16000)
    (source / "07.wav").write_bytes(b"broken")
    killed = []

    def kill_a_worker() -> None:
        while not killed:
            time.sleep(0.001)
            if (on_ray / "data").exists() and any((on_ray / "data").iterdir()):
                workers = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::_Actor")]
                workers[0].kill()
                killed.append(workers[0].pid)

    thread = threading.Thread(target=kill_a_worker)
    thread.start()
    done = extract(
        source,
        on_ray,
        model=model_folder,
        what="both",
        num_files_per_shard=1,
        batch_size=1,
        engine="ray",
        num_actors=2,
    )
    thread.join()
    assert killed
    assert (done.num_files, done.num_errors) == (40, 1)
    assert not any((on_ray / "tmp").iterdir())

    extract(source, here, model=model_folder, what="both", num_workers=0)
    rows, expected = pandas.read_parquet(on_ray / "data"), pandas.read_parquet(here / "data")
    assert rows.path.tolist() == expected.path.tolist() == sorted(p.name for p in source.iterdir())
    assert rows.revision.tolist() == expected.revision.tolist()
    np.testing.assert_allclose(
        np.stack(rows.embedding.dropna()), np.stack(expected.embedding.dropna()), atol=1e-5
    )  # in other batches
