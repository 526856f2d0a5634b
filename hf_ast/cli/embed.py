"""`hf-ast embed`."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from hf_ast.choices import EmbeddingMode
from hf_ast.text import storable
from hf_ast.whole import whole_file

from .errors import for_each
from .files import Recordings, expand_arguments
from .options import DEFAULT_MODEL, BatchOptions, Json, Model, positive, with_options
from .output import show_result

if TYPE_CHECKING:
    import numpy as np


@with_options
def embed(
    files: Recordings,
    options: BatchOptions,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to create: .npz or .parquet.")],
    model: Model = DEFAULT_MODEL,
    moments: Annotated[
        bool, typer.Option("--moments", help="Embed the moments of a recording instead of the whole.")
    ] = False,
    mode: Annotated[
        EmbeddingMode,
        typer.Option(help="The pooled output of the model, its logits, or the logits followed by the output."),
    ] = "features",
    window: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            callback=positive,
            help="Length of a window.",
            show_default="what the model hears at once; with --moments 0.16",
        ),
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            callback=positive,
            help="Time between windows.",
            show_default="a quarter of the window; with --moments 0.05",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write embeddings of recordings into a file.

    The file is a table with one row per recording, in the order of the arguments: `path`, and `embedding`, which holds
    D float32 numbers. With `--moments`, it has one row per moment: `path`, `time_s` and `embedding`. In a Parquet file
    these are columns. In an .npz file they are arrays with one element per row; `embedding` has the shape (rows, D).

    If a recording fails, or Ctrl-C ends the command, the file holds all recordings that were finished. Prints the path
    of the file; with `--json`, an object with `out`, `num_recordings`, `num_rows`, `num_dimensions` and `failed`, the
    recordings that could not be embedded, each with `file` and `error`.
    """
    write = writer(out)
    found = expand_arguments(files)
    if not found.files:
        show_result(as_json, {"out": None, "num_recordings": 0, "failed": found.failed()}, [])
        raise typer.Exit(1)
    import numpy as np

    import hf_ast

    encoder, feature_extractor = options.encoder(model)
    settings: dict[str, Any] = {"mode": mode, "batch_size": options.batch_size}
    settings |= {name: value for name, value in (("window_s", window), ("hop_s", hop)) if value is not None}
    rows: list[tuple[str, np.ndarray, np.ndarray]] = []

    def embed_file(file: str) -> None:
        waveform, _ = hf_ast.audio.read(file, feature_extractor.sampling_rate)
        if moments:
            embeddings, times_ms = hf_ast.timestamp_embeddings(encoder, feature_extractor, waveform, **settings)
            rows.append((file, times_ms[0].double().numpy() / 1000, embeddings[0].numpy()))
        else:
            embeddings = hf_ast.scene_embeddings(encoder, feature_extractor, waveform, **settings)
            rows.append((file, np.zeros(1), embeddings.numpy()))

    try:
        for_each(found.files, embed_file, found.fail, progress="Embedding")
    finally:
        data: dict[str, Any] = {"out": None, "num_recordings": 0}
        if rows:
            columns = as_columns(rows, moments)
            write(columns)
            data = {
                "out": str(out),
                "num_recordings": len(rows),
                "num_rows": len(columns["embedding"]),
                "num_dimensions": columns["embedding"].shape[1],
            }
        show_result(as_json, data | {"failed": found.failed()}, [str(out)] if rows else [])
    if found.failures:
        raise typer.Exit(1)


def as_columns(rows: Sequence[tuple[str, "np.ndarray", "np.ndarray"]], moments: bool) -> dict[str, "np.ndarray"]:
    """Join rows of (path, times (K,) in seconds, embeddings (K, D)) into the columns of one table."""
    import numpy as np

    columns = {"path": np.repeat([file for file, _, _ in rows], [len(times) for _, times, _ in rows])}
    if moments:
        columns["time_s"] = np.concatenate([times for _, times, _ in rows])
    return columns | {"embedding": np.concatenate([embeddings for _, _, embeddings in rows])}


def writer(out: Path) -> Callable[[dict[str, "np.ndarray"]], None]:
    """Return a function that writes a table to a file, completely or not at all.

    Raises:
        BadParameter: The file exists, or its name has an unknown suffix.
        ImportError: A package that the format needs is not installed.
    """
    if out.exists():
        raise typer.BadParameter(f"{out} exists; give another name, or remove it.", param_hint="--out")
    writers = {".npz": write_npz, ".parquet": write_parquet}
    if out.suffix not in writers:
        raise typer.BadParameter(f"{out} must end in {' or '.join(writers)}.", param_hint="--out")
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ImportError('Parquet needs pyarrow: pip install "hf-ast[corpus]"; or give a name that ends in .npz.')
    out.parent.mkdir(parents=True, exist_ok=True)

    def write(columns: dict[str, "np.ndarray"]) -> None:
        with whole_file(out) as partial, partial.open("wb") as stream:
            writers[out.suffix](stream, columns)

    return write


def write_npz(stream: BinaryIO, columns: dict[str, "np.ndarray"]) -> None:
    """Write the columns as arrays, for `numpy.load`."""
    import numpy as np

    np.savez(stream, allow_pickle=False, **columns)


def write_parquet(stream: BinaryIO, columns: dict[str, "np.ndarray"]) -> None:
    """Write the columns as they are, embeddings as lists of fixed size."""
    import pyarrow as pa
    from pyarrow import parquet

    num_dimensions = columns["embedding"].shape[1]
    table = {"path": pa.array([storable(path) for path in columns["path"].tolist()])}
    table |= {name: pa.array(values) for name, values in columns.items() if name not in ("path", "embedding")}
    table["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(columns["embedding"].ravel()), num_dimensions)
    parquet.write_table(pa.table(table), stream)
