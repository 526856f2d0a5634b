"""Shards -> Parquet files: what every engine runs."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import BatchFeature, FeatureExtractionMixin, PreTrainedModel

from hf_ast.inference.events import find_events
from hf_ast.inference.features import clip_features
from hf_ast.inference.loading import load_classifier, load_encoder
from hf_ast.inference.tagging import WindowScorer, apply_activation, probabilities

from .decoding import End, WindowBatch, window_batches
from .plan import Plan, Shard, publish, read_plan, unfinished_file
from .schema import result_schema

NUM_ROWS_PER_GROUP = 1024


class Report(NamedTuple):
    """Work done since the last report."""

    num_files: int = 0
    num_errors: int = 0
    audio_s: float = 0.0


def load_model(name: str, what: str) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """The model of an extraction: a classifier if there shall be tags."""
    return load_encoder(name) if what == "embeddings" else load_classifier(name)


def revision_of(model: PreTrainedModel, feature_extractor: FeatureExtractionMixin) -> str:
    """The commit of a model from the Hub; of any other one, a digest of its weights, config and front end."""
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
    return f"sha256:{digest.hexdigest()}"


class _Window(NamedTuple):
    """What the model says of a stretch of a recording: scores (C,), embedding (D,), or both."""

    start_s: float
    end_s: float
    scores: np.ndarray | None
    embedding: np.ndarray | None


class ShardWorker:
    """Turns shards into files, with one model.

    Args:
        out: Folder of the extraction, with its plan.
        model, feature_extractor: Of the plan; they are loaded if None.
        device: Where the model runs.
        batch_size: Windows per forward pass.
        num_workers: Processes that decode; 0 means this one.

    Raises:
        ValueError: The model is not the one of the plan: what its name stands for has changed, or is different here.
    """

    def __init__(
        self,
        out: Path,
        model: PreTrainedModel | None = None,
        feature_extractor: FeatureExtractionMixin | None = None,
        *,
        device: str,
        batch_size: int,
        num_workers: int,
    ):
        self.out = out
        self.plan: Plan = read_plan(out)
        settings = self.plan.settings
        if model is None or feature_extractor is None:
            model, feature_extractor = load_model(settings.model, settings.what)
            if (revision := revision_of(model, feature_extractor)) != settings.revision:
                raise ValueError(
                    f"model={settings.model!r} has the revision {revision} here, but the extraction began with "
                    f"{settings.revision}."
                )
        self.model = model.to(device).eval()
        self.feature_extractor = feature_extractor
        self.batch_size = batch_size
        self.num_workers = num_workers
        windows = WindowScorer(model, feature_extractor, window_s=settings.window_s, hop_s=settings.hop_s)
        self.window, self.hop, self.labels = windows.window, windows.hop, windows.labels
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
        windows: dict[int, list[_Window]] = {}
        writers: dict[Shard, _ShardWriter] = {}
        try:
            for batch in self._batches(list(shard_of)):
                for file, window in zip(batch.files, self._describe(batch), strict=True):
                    windows.setdefault(file, []).append(window)
                for end in batch.ends:
                    shard = shard_of[end.file]
                    if shard not in writers:
                        writers[shard] = _ShardWriter(self.plan.file(self.out, shard), self.out, shard, self.schema)
                    writer = writers[shard]
                    heard = windows.pop(end.file, [])
                    writer.add(end.file, self._rows(end, heard))
                    if writer.is_complete:
                        writer.close()
                        del writers[shard]
                    yield Report(1, int(end.error is not None), heard[-1].end_s if end.error is None else 0.0)
        finally:
            for writer in writers.values():
                writer.abandon()

    def _batches(self, files: Sequence[int]) -> Iterator[WindowBatch]:
        extractor = self.feature_extractor
        return window_batches(
            self.plan.source,
            self.plan.names,
            files,
            sampling_rate=extractor.sampling_rate,
            window=self.window,
            hop=self.hop,
            min_samples=getattr(extractor, "min_samples", 1),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
        )

    def _describe(self, batch: WindowBatch) -> list[_Window]:
        """Run the model on windows."""
        if not batch.files:
            return []
        inputs = clip_features(self.feature_extractor, batch.clips(), device=self.model.device).to(self.model.dtype)
        scores, embeddings = describe(self.model, inputs, self.plan.settings.what)
        rate = self.feature_extractor.sampling_rate
        return [
            _Window(
                start_s,
                start_s + length / rate,
                # Copies, as parts would keep the whole output of the model in memory
                None if scores is None else scores[row].numpy().copy(),
                None if embeddings is None else embeddings[row].numpy().copy(),
            )
            for row, (start_s, length) in enumerate(zip(batch.starts_s, batch.lengths, strict=True))
        ]

    def _rows(self, end: End, windows: list[_Window]) -> pa.Table:
        """The rows of a recording."""
        settings = self.plan.settings
        common = {"path": self.plan.names[end.file], "model": settings.model, "revision": settings.revision}
        if end.error is not None:
            rows = [{"error": end.error}]
        elif settings.rows == "windows":
            rows = [self._row(window) for window in windows]
        else:
            rows = [self._row(_whole(windows)) | self._events(windows)]
        return pa.Table.from_pylist([common | row for row in rows], self.schema)

    def _row(self, window: _Window) -> dict[str, Any]:
        row: dict[str, Any] = {"start_s": window.start_s, "end_s": window.end_s}
        if window.scores is not None:
            order = np.argsort(-window.scores, kind="stable")
            heard = [self.labels[index] for index in order if window.scores[index] >= self.plan.settings.threshold]
            row |= {"labels": heard, "scores": window.scores}
        if window.embedding is not None:
            row["embedding"] = window.embedding
        return row

    def _events(self, windows: list[_Window]) -> dict[str, Any]:
        scores = [window.scores for window in windows if window.scores is not None]
        if not scores:
            return {}
        times_s = torch.tensor([(window.start_s, window.end_s) for window in windows], dtype=torch.float64)
        settings = self.plan.settings
        events = find_events(torch.from_numpy(np.stack(scores)), times_s, self.labels, threshold=settings.threshold)
        return {"events": [event._asdict() for event in events]}


def _whole(windows: list[_Window]) -> _Window:
    """The recording as one window: the mean of its windows."""
    scores = [window.scores for window in windows if window.scores is not None]
    embeddings = [window.embedding for window in windows if window.embedding is not None]
    return _Window(
        0.0,
        windows[-1].end_s,
        np.mean(scores, axis=0) if scores else None,
        np.mean(embeddings, axis=0) if embeddings else None,
    )


@torch.inference_mode()
def describe(model: PreTrainedModel, inputs: BatchFeature, what: str) -> tuple[Tensor | None, Tensor | None]:
    """Scores (B, C), embeddings (B, D), or both of model inputs, float32 on the CPU, in one forward pass."""
    if what == "tags":
        return probabilities(model, inputs).cpu(), None
    pooled = model.base_model(**inputs).pooler_output
    scores = None
    if what == "both":
        scores = apply_activation(model.classifier(pooled).float(), model.config.problem_type).cpu()
    return scores, pooled.float().cpu()


class _ShardWriter:
    """Writes the file of a shard, recording by recording in the order of the plan, however they come in."""

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
        """Put the complete file into its place."""
        self._writer.close()
        publish(self._unfinished, self._path)

    def abandon(self) -> None:
        """Remove the unfinished file."""
        try:
            self._writer.close()
        finally:
            self._unfinished.unlink(missing_ok=True)
