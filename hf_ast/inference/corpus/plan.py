"""The plan of an extraction: its settings, recordings and shards. It is written once, before the first shard.

    OUT/plan.parquet                          every recording, or part of one, with its shard; the settings
    OUT/data/shard-00007-of-00120.parquet     results, complete or not there
    OUT/tmp/                                  shards in progress
    OUT/lock                                  held while a run lasts

A shard is done if its file exists in `data`. It is written under `tmp`, flushed to the disk and then renamed, which is
atomic: whenever a run is killed, only its shards in progress are lost, and a recording can never be there twice.
"""

import dataclasses
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from hf_ast.data.entries import find_entries
from hf_ast.data.sources import Source
from hf_ast.text import storable

METADATA_KEY = b"hf_ast"
NUM_NAMES_IN_ERRORS = 3
# Columns of the plan. `path` is for readers; `name` has the bytes of names that are not UTF-8, too
PLAN = pa.schema(
    {
        "shard": pa.int32(),
        "path": pa.string(),
        "name": pa.binary(),
        "index": pa.int64(),
        "start_s": pa.float64(),
        "end_s": pa.float64(),
        "problem": pa.string(),
    }
)


@dataclass(frozen=True)
class Item:
    """A recording, or a part of one.

    Attributes:
        name, index: See `Entry`.
        start_s, end_s: The part, in seconds; to its end if `end_s` is None.
        problem: Why it cannot be opened, if that is known already.
    """

    name: str
    index: int
    start_s: float = 0.0
    end_s: float | None = None
    problem: str | None = None

    @property
    def is_part(self) -> bool:
        """Whether the source means a part of a recording."""
        return self.start_s > 0 or self.end_s is not None

    def __str__(self) -> str:
        return f"{self.name} from {self.start_s:g} s" if self.is_part else self.name


def find_items(source: Source) -> list[Item]:
    """List the recordings of a source, or their parts where it names these, and whatever in it cannot be opened."""
    if source.kind in ("folder", "shards"):
        items = [Item(name, index) for index, name in enumerate(source.names())]
    else:
        entries = find_entries(source, split_column="", group_column="", labelled=False)
        items = [Item(e.name, e.index, e.start_s, e.end_s, e.problem or None) for e in entries]
    return items + [Item(name, -1, problem=problem) for name, problem in source.unreadable().items()]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the results. All results in a folder have the same settings.

    Attributes:
        model: Name or folder of the model.
        revision: Commit of the model on the Hub, or the digest of its weights and settings.
        what: "tags", "embeddings" or "both".
        rows: "files" or "windows".
        window_s, hop_s: The windows.
        threshold: Score from which a label counts.
        num_files_per_shard: Recordings per shard; the last one has the rest.
        hf_ast: Version of this package.
        dtype: Type of the weights and of what the model computes.
    """

    model: str
    revision: str
    what: str
    rows: str
    window_s: float
    hop_s: float
    threshold: float
    num_files_per_shard: int
    hf_ast: str
    dtype: str = "float32"


@dataclass(frozen=True)
class Shard:
    """Recordings `first` to `last` - 1 of the plan, which become one file."""

    number: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything there is to do.

    Attributes:
        settings: Everything that decides the results.
        source: Where the recordings are.
        items: The recordings, or parts of them.
    """

    settings: Settings
    source: Source
    items: Sequence[Item]

    @property
    def shards(self) -> list[Shard]:
        """All shards, in their order."""
        size, total = self.settings.num_files_per_shard, len(self.items)
        return [Shard(number, i, min(i + size, total)) for number, i in enumerate(range(0, total, size))]

    def file(self, out: Path, shard: Shard) -> Path:
        """The file of a shard, which exists if the shard is done."""
        num_shards = -(-len(self.items) // self.settings.num_files_per_shard)
        return out / "data" / f"shard-{shard.number:05d}-of-{num_shards:05d}.parquet"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is created if it does not exist.

    The lock is the operating system's: it ends with the process, however that ends. Without it two runs would do no
    harm, since each shard is renamed as a whole, but they would do everything twice.

    Raises:
        ValueError: Another run is writing to it.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ValueError(f"out={str(out)!r} is being written by another run; wait for it, or stop it.") from error
    try:
        yield
    finally:
        lock.release()


def begin(out: Path, plan: Plan) -> None:
    """Record a plan in a folder, or continue with the one that is there, and remove unfinished files of a killed run.

    Raises:
        ValueError: The folder has results of other settings, of other recordings, or of no plan.
    """
    data = out / "data"
    data.mkdir(exist_ok=True)
    (out / "tmp").mkdir(exist_ok=True)
    remove_unfinished(out)
    if (out / "plan.parquet").exists():
        _expect_same(out, read_plan(out), plan)
        return
    if any(data.iterdir()):
        raise ValueError(f"out={str(out)!r} has results in {data.name!r}, but no plan; give another folder.")
    rows = [
        vars(item)
        | {"shard": shard.number, "path": storable(item.name), "name": item.name.encode("utf-8", "surrogatepass")}
        for shard in plan.shards
        for item in plan.items[shard.first : shard.last]
    ]
    record = {"settings": dataclasses.asdict(plan.settings), "source": dataclasses.asdict(plan.source)}
    unfinished = unfinished_file(out, out / "plan.parquet")
    table = pa.Table.from_pylist(rows, PLAN.with_metadata({METADATA_KEY: json.dumps(record)}))
    pq.write_table(table, unfinished)
    publish(unfinished, out / "plan.parquet")


def read_plan(out: Path) -> Plan:
    """The plan recorded in a folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It was written by another version of hf_ast with other settings.
    """
    table = pq.read_table(out / "plan.parquet")
    record = json.loads(table.schema.metadata[METADATA_KEY])
    try:
        rows = table.select([field.name for field in dataclasses.fields(Item)]).to_pylist()
        return Plan(
            settings=Settings(**record["settings"]),
            source=Source(**record["source"]),
            items=[Item(**row | {"name": row["name"].decode("utf-8", "surrogatepass")}) for row in rows],
        )
    except (KeyError, TypeError) as error:
        version = record["settings"].get("hf_ast", "unknown")
        raise ValueError(
            f"out={str(out)!r} was begun by another version of hf_ast ({version}), whose plans this one cannot "
            "continue; give another folder."
        ) from error


def _expect_same(out: Path, earlier: Plan, plan: Plan) -> None:
    problems = _differences(dataclasses.asdict(earlier.settings), dataclasses.asdict(plan.settings))
    problems += _differences(dataclasses.asdict(earlier.source), dataclasses.asdict(plan.source))
    if list(earlier.items) != list(plan.items):
        before, now = set(earlier.items), set(plan.items)
        added = [item for item in plan.items if item not in before]
        gone = [item for item in earlier.items if item not in now]
        problems += [
            f"{len(items)} recordings {what}, such as {[str(item) for item in items[:NUM_NAMES_IN_ERRORS]]}"
            for items, what in ((added, "are new"), (gone, "are gone"))
            if items
        ]
        if not added and not gone:
            problems.append("the recordings come in another order")
    if problems:
        raise ValueError(
            f"out={str(out)!r} was begun differently: {'; '.join(problems)}. Run it as before, or give another folder."
        )


def _differences(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [f"{name} was {earlier[name]!r} and is {now[name]!r} now" for name in now if earlier[name] != now[name]]


def unfinished_file(out: Path, path: Path) -> Path:
    """A unique path at which to write a file that `publish` then moves into its place."""
    return out / "tmp" / f"{path.name}.{uuid.uuid4().hex}"


def publish(unfinished: Path, path: Path) -> None:
    """Move a complete file into its place: as a whole or not at all, even if the machine fails."""
    _flush_to_disk(unfinished)
    unfinished.replace(path)
    _flush_to_disk(path.parent)


def remove_unfinished(out: Path) -> None:
    """Remove the unfinished files of killed workers."""
    for path in (out / "tmp").iterdir():
        path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders, and its file systems keep a journal of names
    # Windows flushes only what may be written
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
