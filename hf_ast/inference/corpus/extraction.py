"""Tags and embeddings of a whole corpus, as Parquet files."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from tqdm.auto import tqdm

import hf_ast
from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.choices import Engine, Extracted, ExtractedRows, expect_one_of
from hf_ast.data.sources import Source, find_source
from hf_ast.inference.devices import find_device
from hf_ast.inference.events import EventRule
from hf_ast.inference.tagging import WindowScorer

from .decoding import default_num_workers
from .engines import run_on_ray
from .plan import Plan, Settings, Shard, begin, find_items, locked, remove_unfinished
from .work import Report, ShardWorker, load_model, revision_of


@dataclass(frozen=True)
class Extraction:
    """What a run did.

    Attributes:
        out: Folder of the results.
        num_files: Recordings in the corpus, or parts of them where it names parts.
        num_done_before: Those that an earlier run had done.
        num_errors: Those of this run that have an error instead of results.
        num_warnings: Those of this run that have warnings.
        audio_s: Length of the audio that this run processed, in seconds.
        elapsed_s: How long it took, without loading the model, in seconds.
        failed: Name and error of each one that has an error.
    """

    out: Path
    num_files: int
    num_done_before: int
    num_errors: int
    num_warnings: int
    audio_s: float
    elapsed_s: float
    failed: list[tuple[str, str]]


def extract(
    source: str | os.PathLike[str] | Source,
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = EMBEDDED_MODEL,
    what: Extracted = "tags",
    rows: ExtractedRows = "files",
    window_s: float | None = None,
    hop_s: float | None = None,
    threshold: float = 0.5,
    subset: str | None = None,
    split: str | None = None,
    num_files_per_shard: int = 64,
    retry_errors: bool = False,
    engine: Engine = "local",
    address: str | None = None,
    num_actors: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    num_workers: int | None = None,
    progress: bool = False,
) -> Extraction:
    """Extract tags or embeddings of a corpus into Parquet files, which `docs/corpora.md` describes.

    The first run records a plan in `out`; later ones with the same arguments do what is left of it. A run may be
    killed at any moment; in the end, every recording is in the results exactly once. Arguments that decide the results
    must stay the same; engine, device, batch size and processes may change.

    Args:
        source: A folder, manifest, tar shards, data set or URL, or what `find_source` returns for it. Where a manifest
            names parts of recordings, each part is treated as a recording.
        out: Folder of the results. With Ray, all machines must see it.
        model: A folder, the id of a model on the Hub, or the name of a released checkpoint.
        what: "tags" (scores, labels and events), "embeddings" or "both". An embedding is the pooled output of the
            model; that of a recording is the mean over its windows.
        rows: "files" (one row per recording) or "windows" (one per window).
        window_s: Length of a window, in seconds; what the model hears at once if None.
        hop_s: Seconds between the starts of two windows; one window if None.
        threshold: Score from which a label counts as heard, and above which there are events; see `find_events`.
        subset, split: Which part of a data set; all splits if None.
        num_files_per_shard: Recordings per result file. A run that is killed loses the shards in progress.
        retry_errors: Whether shards with recordings that could not be read are done again.
        engine: "local" (this machine) or "ray".
        address, num_actors: See `run_on_ray`.
        device: Where the model runs; if None, the accelerator if there is one, with Ray one that the cluster has, else
            the CPU.
        dtype, revision, token: As in `hf_ast.load_classifier`. Results of another dtype or revision need another
            `out`. The token is not written into `out`.
        batch_size: Windows per forward pass; if None, 8 on a CPU, and 32 on an accelerator.
        num_workers: Processes that decode for each model; if None, as many as there are processors, at most four, and
            none with Ray, where the actors already run in parallel.
        progress: Whether to show recordings, hours of audio, speed and time left on stderr.

    Raises:
        ValueError: Wrong arguments, no recordings, results of other settings in `out`, or another run that writes it.
    """
    expect_one_of(Extracted, what=what)
    expect_one_of(ExtractedRows, rows=rows)
    expect_one_of(Engine, engine=engine)
    if num_files_per_shard < 1:
        raise ValueError(f"num_files_per_shard={num_files_per_shard} must be at least 1.")
    if engine != "ray" and (address is not None or num_actors is not None):
        raise ValueError(f'address={address!r} and num_actors={num_actors!r} are for engine="ray".')
    if "://" in os.fspath(out):
        raise ValueError(f"out={os.fspath(out)!r} is a URL; give a folder, whose files can be renamed in one step.")
    EventRule(threshold=threshold)  # before the work, not after it
    corpus = source if isinstance(source, Source) else find_source(source, subset=subset, split=split)
    name = os.path.abspath(model) if Path(model).is_dir() else os.fspath(model)
    run_on = "cpu" if engine == "ray" else find_device(device)  # of this machine; the others may have another one
    loaded, feature_extractor = load_model(name, what, device=run_on, dtype=dtype, revision=revision, token=token)
    windows = WindowScorer(loaded, feature_extractor, window_s=window_s, hop_s=hop_s, batch_size=batch_size)
    settings = Settings(
        model=name,
        revision=revision_of(loaded, feature_extractor),
        what=what,
        rows=rows,
        window_s=windows.window / windows.sampling_rate,
        hop_s=windows.hop / windows.sampling_rate,
        threshold=threshold,
        num_files_per_shard=num_files_per_shard,
        hf_ast=hf_ast.__version__,
        dtype=dtype,
    )
    plan = Plan(settings=settings, source=corpus, items=find_items(corpus))
    folder = Path(out).absolute()
    with locked(folder):
        begin(folder, plan)
        shards = [shard for shard in plan.shards if not _is_done(plan.file(folder, shard), retry_errors)]
        if engine == "ray":
            del loaded
            reports = run_on_ray(
                folder,
                shards,
                address=address,
                num_actors=num_actors,
                device=device,
                batch_size=batch_size,
                num_workers=num_workers or 0,
                token=token,
            )
        else:
            num_workers = default_num_workers() if num_workers is None else num_workers
            worker = ShardWorker(
                folder, loaded, feature_extractor, device=run_on, batch_size=batch_size, num_workers=num_workers
            )
            reports = worker(shards)
        done = _follow(reports, folder, plan, shards, progress)
        remove_unfinished(folder)
        return done


def _is_done(file: Path, retry_errors: bool) -> bool:
    if not file.exists():
        return False
    return not retry_errors or pq.read_table(file, columns=["error"]).column("error").null_count == _num_rows(file)


def _num_rows(file: Path) -> int:
    return pq.read_metadata(file).num_rows


def _follow(reports: Iterator[Report], out: Path, plan: Plan, shards: list[Shard], progress: bool) -> Extraction:
    """Run an engine to its end, with a progress bar."""
    num_files = sum(map(len, shards))
    num_done_before = len(plan.items) - num_files
    failed: list[tuple[str, str]] = []
    num_warnings, audio_s, began_at = 0, 0.0, time.monotonic()
    with tqdm(total=len(plan.items), initial=num_done_before, unit="file", disable=not progress) as bar:
        for report in reports:
            failed += report.failed
            num_warnings += report.num_warnings
            audio_s += report.audio_s
            speed = audio_s / (time.monotonic() - began_at)
            bar.set_postfix_str(f"{audio_s / 3600:.2f} h, {speed:.0f}x, {len(failed)} errors", refresh=False)
            bar.update(report.num_files)
    return Extraction(
        out=out,
        num_files=len(plan.items),
        num_done_before=num_done_before,
        num_errors=len(failed),
        num_warnings=num_warnings,
        audio_s=audio_s,
        elapsed_s=time.monotonic() - began_at,
        failed=failed,
    )
