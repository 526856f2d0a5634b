"""Hours of the same work: does memory grow, and are files, threads or processes left?

    python -m tests.benchmarks.soak [--minutes 60] [--files 20000] [--json FILE]           # make soak

- `stream`: what `hf-ast listen` does between the microphone and the screen, as fast as it goes: blocks of 0.1 s at
  48 kHz, resampled, pushed into a `StreamTagger`, and each window as a line. A stream ends every ten minutes of sound.
- `extract`: `hf-ast extract` on short clips. Its processes that decode are counted apart.

Each runs in a process of its own, which first does a little of the same work, as libraries open files and start
threads when they are used. Memory is sampled from then on; its growth is the median of the last tenth of the samples
minus that of the second one, and its slope a least-squares fit from the second tenth on. The exit status is 1 where
memory grew by more than 16 MB, which is less than a block of 0.1 s (6.4 kB), a window's scores or a recording's row
(about 1 kB) kept each time would be, or where anything is left.
"""

import argparse
import contextlib
import gc
import io
import itertools
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import soundfile
import soxr
import torch

from hf_ast import StreamTagger, load_classifier
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.cli import main as run_command
from hf_ast.cli.listen import as_line, heard

MAX_GROWTH_MB = 16.0
BLOCK_S, HOP_S, MICROPHONE_HZ = 0.1, 0.5, 48_000
STREAM_S = 600.0
CLIP_S, CLIP_HZ = 0.2, 16_000
Row = dict[str, Any]


class Sampler:
    """Samples the memory of this process, and of its children together, in a thread."""

    def __init__(self, interval_s: float):
        self.samples: list[tuple[float, float, float]] = []
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        began_at = time.monotonic()
        process = psutil.Process()
        while not self._ended.wait(self._interval_s):
            children_mb = 0.0
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended between the list and the look
                    children_mb += 1e-6 * child.memory_info().rss
            own_mb = 1e-6 * process.memory_info().rss
            self.samples.append((time.monotonic() - began_at, own_mb, children_mb))


def held() -> Row:
    """What this process holds."""
    gc.collect()
    process = psutil.Process()
    return {
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "processes": len(process.children(recursive=True)),
    }


def growth(samples: list[tuple[float, float, float]], column: int) -> Row:
    """First, last and largest memory in MB, growth in MB, and slope in MB per hour."""
    values = np.array(samples)
    tenth = max(len(values) // 10, 1)
    later = values[tenth:]
    first, last = (np.median(part[:, column]) for part in (later[:tenth], values[-tenth:]))
    slope = np.polyfit(later[:, 0] / 3600, later[:, column], 1)[0]
    return {
        "first_mb": round(float(first), 1),
        "last_mb": round(float(last), 1),
        "largest_mb": round(float(values[:, column].max()), 1),
        "growth_mb": round(float(last - first), 2),
        "slope_mb_per_hour": round(float(slope), 2),
    }


def measured(warm_up: Callable[[], object], work: Callable[[], Row], interval_s: float) -> Row:
    """Do a little of a work, then all of it, and compare what is held before and after."""
    torch.set_num_threads(1)
    warm_up()
    before = held()
    began_at = time.monotonic()
    with Sampler(interval_s) as sampler:
        done = work()
    samples = sampler.samples
    return {
        **done,
        "elapsed_s": round(time.monotonic() - began_at, 1),
        "num_samples": len(samples),
        "memory": growth(samples, 1),
        "children": growth(samples, 2) if any(children_mb for _, _, children_mb in samples) else None,
        "before": before,
        "after": held(),
    }


# --- Streams


def pieces(rng: np.random.Generator, rate: int, duration_s: float) -> Iterator[np.ndarray]:
    """Noise of changing loudness in blocks, resampled as the microphone's."""
    resampler = soxr.ResampleStream(MICROPHONE_HZ, rate, 1, dtype="float32")
    for number in range(round(duration_s / BLOCK_S)):
        block = rng.standard_normal(round(BLOCK_S * MICROPHONE_HZ), dtype=np.float32)
        yield resampler.resample_chunk(np.float32(0.1 + 0.1 * np.sin(0.1 * number)) * block)
    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def soak_stream(minutes: float) -> Row:
    """Tag streams until the time is over."""
    tagger = StreamTagger(*load_classifier(EMBEDDED_MODEL), hop_s=HOP_S)
    rng = np.random.default_rng(0)

    def tag(duration_s: float) -> int:
        lines = (as_line(window, 5) for window in heard(tagger, pieces(rng, tagger.sampling_rate, duration_s)))
        return sum(1 for line in lines if line)

    def work() -> Row:
        num_windows, num_streams, ends_at = 0, 0, time.monotonic() + 60 * minutes
        while time.monotonic() < ends_at:
            num_windows += tag(STREAM_S)
            num_streams += 1
        sound_h = num_streams * STREAM_S / 3600
        return {"sound_h": round(sound_h, 2), "num_streams": num_streams, "num_windows": num_windows}

    return measured(lambda: tag(60.0), work, interval_s=1.0)


# --- Corpora


def write_clips(folder: Path, num_files: int) -> None:
    """Noise and tones, each in a file."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    times_s = np.arange(round(CLIP_S * CLIP_HZ)) / CLIP_HZ
    for number in range(num_files):
        tone = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 4000) * times_s)
        suffix = ("wav", "flac")[number % 2]
        soundfile.write(folder / f"{number:05d}.{suffix}", tone + 0.05 * rng.standard_normal(len(times_s)), CLIP_HZ)


def extract(source: Path, out: Path) -> Row:
    """Run the command; its result."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = run_command(["extract", str(source), "--out", str(out), "--what", "both", "--json"])
    if status:
        raise RuntimeError(f"hf-ast extract ended with the status {status}.")
    return json.loads(output.getvalue())


def soak_extract(num_files: int) -> Row:
    """Extract a corpus; every clip must be in the results."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        for corpus, size in (("few", 200), ("many", num_files)):
            write_clips(folder / corpus, size)

        def work() -> Row:
            done = extract(folder / "many", folder / "many-out")
            data = sorted((folder / "many-out" / "data").iterdir())
            rows = itertools.chain.from_iterable(pq.read_table(file, columns=["path"])["path"] for file in data)
            num_paths = len({path.as_py() for path in rows})
            if num_paths != num_files:
                raise RuntimeError(f"{num_paths} of {num_files} clips are in the results.")
            return {"num_files": num_files, "num_errors": done["num_errors"], "num_paths": num_paths}

        return measured(lambda: extract(folder / "few", folder / "few-out"), work, interval_s=0.25)


# --- Both


def problems(row: Row) -> list[str]:
    """What is wrong with a result."""
    found = [
        f"the {what} grew by {row[what]['growth_mb']} MB"
        for what in ("memory", "children")
        if row[what] is not None and row[what]["growth_mb"] > MAX_GROWTH_MB
    ]
    left = {what: row["after"][what] - number for what, number in row["before"].items()}
    return found + [f"{number} {what} are left" for what, number in left.items() if number > 0]


def print_table(rows: dict[str, Row]) -> None:
    """One line for each process."""
    print(
        f"{'work':18} {'elapsed s':>9} {'first MB':>9} {'last MB':>9} {'largest':>9} {'growth':>7} {'MB/h':>7}", end=""
    )
    print("  open files, threads, processes: before -> after")
    for name, row in rows.items():
        for what, title in (("memory", name), ("children", f"{name}: decoding")):
            if row[what] is None:
                continue
            m = row[what]
            print(f"{title:18} {row['elapsed_s']:9.0f} {m['first_mb']:9.1f} {m['last_mb']:9.1f} ", end="")
            print(f"{m['largest_mb']:9.1f} {m['growth_mb']:7.2f} {m['slope_mb_per_hour']:7.2f}  ", end="")
            before, after = (", ".join(str(number) for number in row[when].values()) for when in ("before", "after"))
            print(f"{before} -> {after}" if what == "memory" else "")
        print("  " + ", ".join(f"{key} {value}" for key, value in row.items() if not isinstance(value, dict | None)))


def in_process(target: Callable[..., Row], *arguments: object) -> Row:
    """The result of a function in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(target, *arguments).result()


def main() -> int:
    """Run both, print a table, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of streams; 0 leaves them out")
    parser.add_argument("--files", type=int, default=20_000, help="to extract; 0 leaves it out")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there, too")
    args = parser.parse_args()
    rows: dict[str, Row] = {}
    if args.files:
        rows["extract"] = in_process(soak_extract, args.files)
    if args.minutes:
        rows["stream"] = in_process(soak_stream, args.minutes)
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    wrong = {name: found for name, row in rows.items() if (found := problems(row))}
    for name, found in wrong.items():
        print(f"{name}: {', '.join(found)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
