"""Extraction on Ray, while its worker dies; `make corpus-faults` loses workers and nodes beside others."""

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
def ray_with_one_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow  # starts a cluster: a minute on a busy machine
@pytest.mark.usefixtures("ray_with_one_processor")
def test_every_recording_is_there_once_when_the_worker_dies(model_folder: Path, tmp_path: Path) -> None:
    source, on_ray, here = tmp_path / "source", tmp_path / "ray", tmp_path / "here"
    source.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        soundfile.write(source / f"{number:02d}.wav", 0.1 * rng.standard_normal(16000), 16000)
    (source / "07.wav").write_bytes(b"broken")
    killed = []

    def kill_the_worker() -> None:
        while not killed:
            time.sleep(0.001)
            if (on_ray / "data").exists() and any((on_ray / "data").iterdir()):
                processes = psutil.Process().children(recursive=True)
                (worker,) = [process for process in processes if process.name().startswith("ray::_Actor")]
                worker.kill()
                killed.append(worker.pid)

    thread = threading.Thread(target=kill_the_worker)
    thread.start()
    done = extract(
        source,
        on_ray,
        model=model_folder,
        what="both",
        num_files_per_shard=1,
        batch_size=1,
        engine="ray",
        num_actors=1,
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
