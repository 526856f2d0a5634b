"""Extraction of a corpus while processes and machines die: every recording must be in the results exactly once.

500 recordings (other rates, stereo, several formats, two broken, one empty, one of five minutes), and the embedded
model. Prints a table; the exit status is 1 if a recording is missing, is there twice, or was done again without need.

    python -m tests.benchmarks.corpus_faults [--seed 0] [--local 20] [--ray 10] [--workers 3] [--nodes 3]
"""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import psutil
import pyarrow.parquet as pq
import soundfile

from hf_ast.inference.corpus import extract
from tests.support import processes

NUM_FILES = 500
NUM_FILES_PER_SHARD = 10
ERRORS = ("broken-0.wav", "broken-1.flac", "empty.wav")
RATES_HZ = (8000, 16000, 22050, 32000, 44100, 48000)
RUN_TIMEOUT_S = 180.0


class Outcome(NamedTuple):
    """What a trial left behind."""

    num_done_at_fault: int
    num_missing: int
    num_twice: int
    num_done_again: int
    num_other_errors: int
    elapsed_s: float

    @property
    def is_good(self) -> bool:
        return not (self.num_missing or self.num_twice or self.num_done_again or self.num_other_errors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the recordings and of the moments of death")
    parser.add_argument("--local", type=int, default=20, help="kills of a run on this machine")
    parser.add_argument("--ray", type=int, default=10, help="kills of a run on Ray")
    parser.add_argument("--workers", type=int, default=3, help="kills of a worker of Ray's alone")
    parser.add_argument("--nodes", type=int, default=3, help="ends of one of two nodes of Ray's")
    args = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        corpus = Path(folder) / "corpus"
        write_corpus(corpus, args.seed)
        print_memory(Path(folder))
        print_throughput(corpus, Path(folder))
        scenarios: list[tuple[str, int, Callable[[Path], Outcome]]] = [
            (
                "local: killed, started again",
                args.local,
                lambda out: kill_run(corpus, out, "local", chance),
            ),
            ("Ray: killed, started again", args.ray, lambda out: kill_run(corpus, out, "ray", chance)),
            ("Ray: a worker killed", args.workers, lambda out: lose(corpus, out, a_worker, chance)),
            ("Ray: one of two nodes ended", args.nodes, lambda out: lose(corpus, out, a_node, chance)),
        ]
        print(f"\n{'fault':30} {'trials':>6} {'done then':>10} {'missing':>8} {'twice':>6} {'again':>6} {'mean s':>7}")
        is_good = True
        for name, num_trials, trial in scenarios:
            outcomes = [trial(Path(folder) / f"{name.replace(' ', '-')}-{number}") for number in range(num_trials)]
            is_good &= all(outcome.is_good for outcome in outcomes)
            if outcomes:
                print_row(name, outcomes)
    return 0 if is_good else 1


def print_row(name: str, outcomes: list[Outcome]) -> None:
    done = [outcome.num_done_at_fault for outcome in outcomes]
    sums = [sum(column) for column in zip(*outcomes, strict=True)]
    print(
        f"{name:30} {len(outcomes):6} {f'{min(done)}-{max(done)}':>10} {sums[1]:8} {sums[2]:6} {sums[3]:6} "
        f"{sums[5] / len(outcomes):7.1f}",
        flush=True,
    )


def write_corpus(folder: Path, seed: int) -> None:
    """Noise of 0.5 to 6 s, one recording of 5 min, two broken ones and an empty one."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(NUM_FILES - 4):
        rate, suffix = RATES_HZ[number % len(RATES_HZ)], ("wav", "flac", "ogg")[number % 3]
        shape = (int(rate * rng.uniform(0.5, 6)), 1 + number % 2)
        soundfile.write(folder / f"{number:03d}.{suffix}", 0.1 * rng.standard_normal(shape), rate)
    soundfile.write(folder / "long.flac", 0.1 * rng.standard_normal(300 * 44100), 44100)
    (folder / "broken-0.wav").write_bytes(b"RIFF but nothing of it")
    whole = (folder / "001.flac").read_bytes()
    (folder / "broken-1.flac").write_bytes(b"?" * 64 + whole[64:])
    soundfile.write(folder / "empty.wav", np.zeros(0), 16000)


def run(corpus: Path, out: Path, engine: str, **settings: Any) -> None:
    """An extraction with two processes on either engine."""
    settings |= {"num_workers": 1} if engine == "local" else {}
    with silent():
        extract(corpus, out, what="both", num_files_per_shard=NUM_FILES_PER_SHARD, engine=engine, **settings)


@contextmanager
def silent() -> Iterator[None]:
    """Keep what Ray and transformers say out of the table; for processes that print nothing but errors."""
    outputs = [os.dup(stream) for stream in (1, 2)]
    with open(os.devnull, "w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            for stream, output in zip((1, 2), outputs, strict=True):
                os.dup2(output, stream)


def kill_run(corpus: Path, out: Path, engine: str, chance: random.Random) -> Outcome:
    """Kill a run at a random moment of its work, and start it again."""
    began_at = time.monotonic()
    process = processes.start(run, corpus, out, engine)
    wait_for(out, chance.randrange(NUM_FILES // NUM_FILES_PER_SHARD - 2))
    process.join(timeout=chance.uniform(0, 0.2))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    done = made_files(out)
    process = processes.start(run, corpus, out, engine)
    finish(process)
    return outcome(corpus, out, done, began_at)


def lose(corpus: Path, out: Path, what: Callable[[Path, int], None], chance: random.Random) -> Outcome:
    """Lose a part of Ray when a random number of shards is done; the run goes on."""
    began_at = time.monotonic()
    num_done = chance.randrange(1, NUM_FILES // NUM_FILES_PER_SHARD - 10)

    def run_and_lose() -> None:
        with silent():
            what(corpus, out, num_done)

    finish(processes.start(run_and_lose))
    return outcome(corpus, out, {}, began_at)._replace(num_done_at_fault=num_done)


def a_worker(corpus: Path, out: Path, num_done: int) -> None:
    """A run on Ray, one of whose actors is killed."""

    def kill() -> None:
        wait_for(out, num_done)
        workers = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::_Actor")]
        workers[0].kill()

    with beside(kill):
        run(corpus, out, "ray")


def a_node(corpus: Path, out: Path, num_done: int) -> None:
    """A run on two nodes with a processor each, one of which ends."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()

    def end_node() -> None:
        wait_for(out, num_done)
        cluster.remove_node(node, allow_graceful=False)

    with beside(end_node):
        run(corpus, out, "ray", address=cluster.address, num_actors=2)
    cluster.shutdown()


@contextmanager
def beside(function: Callable[[], None]) -> Iterator[None]:
    """Run a function in a thread; what it raises is raised here."""
    problems = []

    def guarded() -> None:
        try:
            function()
        except Exception as problem:
            problems.append(problem)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    yield
    thread.join(timeout=RUN_TIMEOUT_S)
    if problems or thread.is_alive():
        raise RuntimeError("Nothing was lost, so nothing is proven.") from (problems or [None])[0]


def wait_for(out: Path, num_shards: int) -> None:
    while len(made_files(out)) < num_shards:
        time.sleep(0.002)


def finish(process: BaseProcess) -> None:
    process.join(timeout=RUN_TIMEOUT_S)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"The run ended with the status {process.exitcode} (None: it hangs).")


def made_files(out: Path) -> dict[str, int]:
    """Files of complete shards, and when they were made."""
    data = out / "data"
    return {file.name: file.stat().st_mtime_ns for file in data.iterdir()} if data.exists() else {}


def outcome(corpus: Path, out: Path, done_at_fault: dict[str, int], began_at: float) -> Outcome:
    """Compare the results with the corpus."""
    counts = pandas.read_parquet(out / "data").path.value_counts()
    errors = pandas.read_parquet(out / "data").query("error.notna()").path
    made = made_files(out)
    return Outcome(
        num_done_at_fault=len(done_at_fault),
        num_missing=len({path.name for path in corpus.iterdir()} - set(counts.index)),
        num_twice=int((counts > 1).sum()),
        num_done_again=sum(made[name] != when for name, when in done_at_fault.items()),
        num_other_errors=len(set(errors) ^ set(ERRORS)),
        elapsed_s=time.monotonic() - began_at,
    )


def print_throughput(corpus: Path, folder: Path) -> None:
    """Speed of both engines with two processes, in turn."""
    audio_s = 0.0
    speeds: dict[str, list[float]] = {"local": [], "ray": []}
    durations_s: dict[str, list[float]] = {"local": [], "ray": []}
    for number in range(3):
        for engine in speeds:
            out = folder / f"speed-{engine}-{number}"
            began_at = time.monotonic()
            finish(processes.start(run, corpus, out, engine))
            durations_s[engine].append(time.monotonic() - began_at)
            shards = {name: pq.read_table(out / "data" / name, columns=["end_s"])["end_s"] for name in made_files(out)}
            order = sorted(made_files(out).items(), key=lambda item: item[1])
            heard_s = [sum(end or 0.0 for end in shards[name].to_pylist()) for name, _ in order]
            audio_s = sum(heard_s)
            # From the first complete shard of either process on, so without imports and loading
            speeds[engine].append(sum(heard_s[2:]) / (1e-9 * (order[-1][1] - order[1][1])))
    print(f"{NUM_FILES} recordings, {audio_s / 60:.1f} min of audio, {NUM_FILES_PER_SHARD} recordings per shard")
    print(f"{'engine':34} {'whole run, s':>13} {'at work, times real time':>25}")
    for engine, name in (("local", "local: a model, a decoder beside it"), ("ray", "Ray: two actors")):
        print(f"{name:34} {np.median(durations_s[engine]):13.1f} {np.median(speeds[engine]):25.0f}", flush=True)


def print_memory(folder: Path) -> None:
    """Peak memory of one process with recordings of one and three hours."""
    peaks_mb = {}
    for num_hours in (1, 3):
        source = folder / f"hours-{num_hours}"
        source.mkdir()
        minute = 0.1 * np.random.default_rng(0).standard_normal((60 * 16000, 1))
        with soundfile.SoundFile(source / "long.wav", "w", 16000, 1) as file:
            for _ in range(60 * num_hours):
                file.write(minute)
        report = folder / f"memory-{num_hours}"
        finish(processes.start(run_and_measure, source, folder / f"out-{num_hours}", report))
        peaks_mb[num_hours] = float(report.read_text())
        (source / "long.wav").unlink()
    print(f"peak memory over the loaded program: {', '.join(f'{h} h: {mb:.0f} MB' for h, mb in peaks_mb.items())}\n")


def run_and_measure(source: Path, out: Path, report: Path) -> None:
    with silent():
        before_kb = psutil.Process().memory_info().rss / 1024
        extract(source, out, what="both", rows="windows", num_workers=0)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report.write_text(str((peak_kb - before_kb) / 1000))


if __name__ == "__main__":
    sys.exit(main())
