"""The Parquet files: one row per recording, or part of one that the source names; or one per window."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from .plan import METADATA_KEY

EVENT = pa.struct([("label", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64()), ("peak", pa.float32())])


def result_schema(
    what: str, rows: str, *, labels: list[str], embedding_size: int, record: Mapping[str, Any]
) -> pa.Schema:
    """Columns of the results, which the page `docs/corpora.md` describes.

    Args:
        what: "tags", "embeddings" or "both".
        rows: "files" or "windows"; only whole recordings have events.
        labels: Names of the C classes, in the order of the scores.
        embedding_size: D.
        record: Metadata of every file besides the labels, stored as JSON under the key "hf_ast".
    """
    fields = [
        pa.field("path", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
    ]
    if what != "embeddings":
        fields.append(pa.field("labels", pa.list_(pa.string())))
        fields.append(pa.field("scores", pa.list_(pa.float32(), len(labels))))
        if rows == "files":
            fields.append(pa.field("events", pa.list_(EVENT)))
    if what != "tags":
        fields.append(pa.field("embedding", pa.list_(pa.float32(), embedding_size)))
    fields.append(pa.field("error", pa.string()))
    fields.append(pa.field("warnings", pa.list_(pa.string())))
    fields.append(pa.field("model", pa.string(), nullable=False))
    fields.append(pa.field("revision", pa.string(), nullable=False))
    metadata = dict(record) | ({"labels": labels} if what != "embeddings" else {})
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(metadata)})
