"""Shards -> Parquet files: what every engine runs."""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedModel

from hf_ast.inference.cells import CellMean
from hf_ast.inference.devices import Device, default_batch_size, place
from hf_ast.inference.events import find_events
from hf_ast.inference.features import FeatureExtractor, clip_features
from hf_ast.inference.loading import load_classifier, load_encoder
from hf_ast.inference.rows import Rows
from hf_ast.inference.tagging import WindowScorer, apply_activation, score_inputs
from hf_ast.text import storable

from .decoding import FATAL, End, WindowBatch, window_batches
from .plan import Plan, Shard, publish, read_plan, unfinished_file
from .schema import result_schema

NUM_ROWS_PER_GROUP = 1024
# After the last, a GPU computes nothing any more until its process ends; torch 2.8 gave it a name
FATAL_FOR_MODELS = (*FATAL, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", MemoryError))
# Windows per forward pass that a CPU computes fastest
BATCH_SIZE_ON_CPU = 8
# What a revision begins with if the model does not come from the Hub
DIGEST = "sha256:"


@dataclass(frozen=True)
class Report:
    """Work done since the last report.

    Attributes:
        num_files: Recordings, or parts of recordings.
        num_warnings: Those of them that have warnings.
        audio_s: Length of what was processed, in seconds.
        failed: Name and error of each of them that has one.
    """

    num_files: int = 0
    num_warnings: int = 0
    audio_s: float = 0.0
    failed: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: "Report") -> "Report":
        return Report(
            self.num_files + other.num_files,
            self.num_warnings + other.num_warnings,
            self.audio_s + other.audio_s,
            self.failed + other.failed,
        )


def load_model(name: str, what: str, **settings: Any) -> tuple[PreTrainedModel, FeatureExtractor]:
    """Load the model of an extraction: a classifier if there are to be tags. Settings: those of `load_classifier`."""
    return load_encoder(name, **settings) if what == "embeddings" else load_classifier(name, **settings)


def commit_of(revision: str) -> str | None:
    """The commit of a model on the Hub, from what `revision_of` returned; None for a model that has none."""
    return None if revision.startswith(DIGEST) else revision


def revision_of(model: PreTrainedModel, feature_extractor: FeatureExtractor) -> str:
    """The commit of a model from the Hub, or else a digest of its weights, config and front end."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit is not None:
        return commit
    digest = hashlib.sha256()
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    for settings in (config, feature_extractor.to_dict()):
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return f"{DIGEST}{digest.hexdigest()}"


class ShardWorker:
    """Turns shards into files, with one model.

    Args:
        out: Folder of the extraction, with its plan.
        model, feature_extractor: Those of the plan; they are loaded if None.
        device: Where the model runs.
        batch_size: Windows per forward pass; if None, 8 on a CPU, and 32 on an accelerator.
        num_workers: Processes that decode; 0 means this one.
        token: Access token of the Hub, if the model is loaded here.

    Raises:
        ValueError: The model is not the one of the plan: its name stands for another one now, or on this machine.
    """

    def __init__(
        self,
        out: Path,
        model: PreTrainedModel | None = None,
        feature_extractor: FeatureExtractor | None = None,
        *,
        device: Device,
        batch_size: int | None,
        num_workers: int,
        token: str | bool | None = None,
    ):
        self.out = out
        self.plan: Plan = read_plan(out)
        settings = self.plan.settings
        if model is None or feature_extractor is None:
            model, feature_extractor = load_model(
                settings.model,
                settings.what,
                device=device,
                dtype=settings.dtype,
                revision=commit_of(settings.revision),
                token=token,
            )
            if (revision := revision_of(model, feature_extractor)) != settings.revision:
                raise ValueError(
                    f"model={settings.model!r} has the revision {revision} here, but the extraction began with "
                    f"{settings.revision}."
                )
        self.model = model.eval()
        place(model, device)
        self.feature_extractor = feature_extractor
        self.batch_size = default_batch_size(model.device, BATCH_SIZE_ON_CPU) if batch_size is None else batch_size
        self.num_workers = num_workers
        windows = WindowScorer(model, feature_extractor, window_s=settings.window_s, hop_s=settings.hop_s)
        self.window, self.hop, self.labels = windows.window, windows.hop, windows.labels
        self.sampling_rate = windows.sampling_rate
        self.schema = result_schema(
            settings.what,
            settings.rows,
            labels=self.labels,
            embedding_size=model.config.hidden_size,
            record={
                "settings": dataclasses.asdict(settings),
                "source": dataclasses.asdict(self.plan.source),
            },
        )

    def __call__(self, shards: Sequence[Shard]) -> Iterator[Report]:
        """Extract shards in their order; a file is there when its shard is complete."""
        if not shards:
            return
        shard_of = {file: shard for shard in shards for file in range(shard.first, shard.last)}
        heard: defaultdict[int, _Heard] = defaultdict(_Heard)
        writers: dict[Shard, _ShardWriter] = {}
        try:
            for batch in self._batches(list(shard_of)):
                self._run_model(batch, heard)
                for end in batch.ends:
                    shard = shard_of[end.file]
                    if shard not in writers:
                        writers[shard] = _ShardWriter(self.plan.file(self.out, shard), self.out, shard, self.schema)
                    writer = writers[shard]
                    windows = heard.pop(end.file, _Heard())
                    error = end.error or windows.error
                    writer.add(end.file, self._rows(end, error, windows))
                    if writer.is_complete:
                        writer.close()
                        del writers[shard]
                    item = self.plan.items[end.file]
                    if error is None:
                        yield Report(1, int(bool(end.warnings)), windows.end_s - item.start_s)
                    else:
                        yield Report(1, int(bool(end.warnings)), failed=((str(item), error),))
        finally:
            for writer in writers.values():
                writer.abandon()

    def _batches(self, files: Sequence[int]) -> Iterator[WindowBatch]:
        return window_batches(
            self.plan.source,
            self.plan.items,
            files,
            sampling_rate=self.sampling_rate,
            window=self.window,
            hop=self.hop,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
        )

    def _run_model(self, batch: WindowBatch, heard: defaultdict[int, "_Heard"]) -> None:
        """Run the model on windows, and add its outputs to those of their recordings."""
        clips = batch.clips()
        for row, (file, outputs) in enumerate(zip(batch.files, self._outputs(clips), strict=True)):
            start_s = batch.starts_s[row]
            heard[file].add(start_s, start_s + batch.lengths[row] / self.sampling_rate, outputs)

    def _outputs(self, clips: list[np.ndarray]) -> list["_Outputs"]:
        """What the model says about each clip. If a batch fails, each clip gets a batch of its own."""
        if not clips:
            return []
        try:
            inputs = clip_features(self.feature_extractor, clips, device=self.model.device).to(self.model.dtype)
            scores, embeddings = describe(self.model, inputs, self.plan.settings.what)
        except FATAL_FOR_MODELS:
            raise
        except Exception as error:
            if len(clips) > 1:
                return [outputs for clip in clips for outputs in self._outputs([clip])]
            return [_Outputs(error=storable(f"{type(error).__name__}: {error}"))]
        return [
            _Outputs(
                None if scores is None else scores[row : row + 1],
                None if embeddings is None else embeddings[row : row + 1],
            )
            for row in range(len(clips))
        ]

    def _rows(self, end: End, error: str | None, heard: "_Heard") -> pa.Table:
        """The rows of a recording."""
        settings, item = self.plan.settings, self.plan.items[end.file]
        common = {
            "path": storable(item.name),
            "warnings": list(end.warnings) or None,
            "model": settings.model,
            "revision": settings.revision,
        }
        rows: list[dict[str, Any]]
        if error is not None:
            part = {"start_s": item.start_s, "end_s": item.end_s} if item.is_part else {}
            rows = [part | {"error": error}]
        elif settings.rows == "windows":
            rows = list(self._describe(*heard.arrays()))
        else:
            times_s, scores, embeddings = heard.arrays()
            whole = (values.mean(axis=0, keepdims=True) if values.size else values for values in (scores, embeddings))
            rows = list(self._describe(np.array([[item.start_s, heard.end_s]]), *whole))
            if scores.size:
                rows[0]["events"] = self._events(times_s, scores)
        return pa.Table.from_pylist([common | row for row in rows], self.schema)

    def _describe(self, times_s: np.ndarray, scores: np.ndarray, embeddings: np.ndarray) -> Iterator[dict[str, Any]]:
        """A row for each stretch of a recording; arrays are those of `_Heard`."""
        for number, (start_s, end_s) in enumerate(times_s.tolist()):
            row: dict[str, Any] = {"start_s": start_s, "end_s": end_s}
            if scores.size:
                order = np.argsort(-scores[number], kind="stable")
                is_heard = scores[number] >= self.plan.settings.threshold
                row |= {"labels": [self.labels[i] for i in order if is_heard[i]], "scores": scores[number]}
            if embeddings.size:
                row["embedding"] = embeddings[number]
            yield row

    def _events(self, times_s: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
        begin_s, rate = times_s[0, 0], self.sampling_rate
        extents = np.rint((times_s - begin_s) * rate).astype(int)
        cells = CellMean(self.hop, rate).whole(extents[:, 0].tolist(), int(extents[0, 1]), scores[:, None])
        edges_s = cells.edges_s + begin_s
        events = find_events(cells.scores, edges_s, self.labels, threshold=self.plan.settings.threshold)
        return [event._asdict() for event in events]


class _Outputs(NamedTuple):
    """Scores (1, C) and embedding (1, D) of a window, as far as they are wanted, or why there are none."""

    scores: Tensor | None = None
    embedding: Tensor | None = None
    error: str | None = None


class _Heard:
    """Outputs of the model for the windows of a recording, where the last one ends, and the first error."""

    def __init__(self) -> None:
        self.times_s = Rows("d")
        self.scores = Rows("f")
        self.embeddings = Rows("f")
        self.end_s = 0.0
        self.error: str | None = None

    def add(self, start_s: float, end_s: float, outputs: _Outputs) -> None:
        """Add the outputs for the next window."""
        values = [values for values in outputs[:2] if values is not None]
        if outputs.error is not None or not all(torch.isfinite(value).all() for value in values):
            self.error = self.error or outputs.error or f"The model's outputs are not finite from {start_s:g} s on."
            return
        self.times_s.append(torch.tensor([[start_s, end_s]], dtype=torch.float64))
        self.end_s = end_s
        if outputs.scores is not None:
            self.scores.append(outputs.scores)
        if outputs.embedding is not None:
            self.embeddings.append(outputs.embedding)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times (K, 2), scores (K, C) and embeddings (K, D); what was not requested is empty."""
        return self.times_s.array(), self.scores.array(), self.embeddings.array()


@torch.inference_mode()
def describe(model: PreTrainedModel, inputs: BatchFeature, what: str) -> tuple[Tensor | None, Tensor | None]:
    """Scores (B, C), embeddings (B, D), or both of model inputs, float32 on the CPU, in one forward pass."""
    if what == "tags":
        return score_inputs(model, inputs).cpu(), None
    pooled = model.base_model(**inputs).pooler_output
    scores = None
    if what == "both":
        scores = apply_activation(model.get_submodule("classifier")(pooled).float(), model.config.problem_type).cpu()
    return scores, pooled.float().cpu()


class _ShardWriter:
    """Writes the file of a shard, recording by recording in the order of the plan, in whatever order they come."""

    def __init__(self, path: Path, out: Path, shard: Shard, schema: pa.Schema):
        self.shard = shard
        self.next_file = shard.first
        self.waiting: dict[int, pa.Table] = {}
        self.group: list[pa.Table] = []
        self._path = path
        self._unfinished = unfinished_file(out, path)
        self._writer = pq.ParquetWriter(self._unfinished, schema, compression="zstd")

    @property
    def is_complete(self) -> bool:
        return self.next_file == self.shard.last

    def add(self, file: int, rows: pa.Table) -> None:
        """Take the rows of a recording."""
        self.waiting[file] = rows
        while self.next_file in self.waiting:
            self.group.append(self.waiting.pop(self.next_file))
            self.next_file += 1
        if self.is_complete or sum(map(len, self.group)) >= NUM_ROWS_PER_GROUP:
            self._writer.write_table(pa.concat_tables(self.group))
            self.group = []

    def close(self) -> None:
        """Move the complete file into its place."""
        self._writer.close()
        publish(self._unfinished, self._path)

    def abandon(self) -> None:
        """Remove the unfinished file."""
        try:
            self._writer.close()
        finally:
            self._unfinished.unlink(missing_ok=True)
