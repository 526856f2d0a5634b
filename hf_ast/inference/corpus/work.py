"""Shards -> Parquet files: what every engine runs."""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from transformers import BatchFeature, PreTrainedModel

from hf_ast.inference.events import find_events
from hf_ast.inference.features import FeatureExtractor, clip_features
from hf_ast.inference.loading import load_classifier, load_encoder
from hf_ast.inference.rows import Rows
from hf_ast.inference.tagging import WindowScorer, apply_activation, score_inputs

from .decoding import End, WindowBatch, window_batches
from .plan import Plan, Shard, publish, read_plan, unfinished_file
from .schema import result_schema

NUM_ROWS_PER_GROUP = 1024


class Report(NamedTuple):
    """Work done since the last report."""

    num_files: int = 0
    num_errors: int = 0
    audio_s: float = 0.0


def load_model(name: str, what: str) -> tuple[PreTrainedModel, FeatureExtractor]:
    """Load the model of an extraction: a classifier if there are to be tags."""
    return load_encoder(name) if what == "embeddings" else load_classifier(name)


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
    return f"sha256:{digest.hexdigest()}"


class ShardWorker:
    """Turns shards into files, with one model.

    Args:
        out: Folder of the extraction, with its plan.
        model, feature_extractor: Those of the plan; they are loaded if None.
        device: Where the model runs.
        batch_size: Windows per forward pass.
        num_workers: Processes that decode; 0 means this one.

    Raises:
        ValueError: The model is not the one of the plan: its name stands for another one now, or on this machine.
    """

    def __init__(
        self,
        out: Path,
        model: PreTrainedModel | None = None,
        feature_extractor: FeatureExtractor | None = None,
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
        self.model = model.eval()
        nn.Module.to(model, device)
        self.feature_extractor = feature_extractor
        self.batch_size = batch_size
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
                    writer.add(end.file, self._rows(end, windows))
                    if writer.is_complete:
                        writer.close()
                        del writers[shard]
                    yield Report(1, int(end.error is not None), windows.end_s if end.error is None else 0.0)
        finally:
            for writer in writers.values():
                writer.abandon()

    def _batches(self, files: Sequence[int]) -> Iterator[WindowBatch]:
        return window_batches(
            self.plan.source,
            self.plan.names,
            files,
            sampling_rate=self.sampling_rate,
            window=self.window,
            hop=self.hop,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
        )

    def _run_model(self, batch: WindowBatch, heard: defaultdict[int, "_Heard"]) -> None:
        """Run the model on windows, and add its outputs to those of their recordings."""
        if not batch.files:
            return
        inputs = clip_features(self.feature_extractor, batch.clips(), device=self.model.device).to(self.model.dtype)
        scores, embeddings = describe(self.model, inputs, self.plan.settings.what)
        for row, file in enumerate(batch.files):
            start_s = batch.starts_s[row]
            end_s = start_s + batch.lengths[row] / self.sampling_rate
            heard[file].times_s.append(torch.tensor([[start_s, end_s]], dtype=torch.float64))
            heard[file].end_s = end_s
            if scores is not None:
                heard[file].scores.append(scores[row : row + 1])
            if embeddings is not None:
                heard[file].embeddings.append(embeddings[row : row + 1])

    def _rows(self, end: End, heard: "_Heard") -> pa.Table:
        """The rows of a recording."""
        settings = self.plan.settings
        common = {"path": self.plan.names[end.file], "model": settings.model, "revision": settings.revision}
        rows: list[dict[str, Any]]
        if end.error is not None:
            rows = [{"error": end.error}]
        elif settings.rows == "windows":
            rows = list(self._describe(*heard.arrays()))
        else:
            times_s, scores, embeddings = heard.arrays()
            whole = (values.mean(axis=0, keepdims=True) if values.size else values for values in (scores, embeddings))
            rows = list(self._describe(np.array([[0.0, heard.end_s]]), *whole))
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
        threshold = self.plan.settings.threshold
        events = find_events(torch.from_numpy(scores), torch.from_numpy(times_s), self.labels, threshold=threshold)
        return [event._asdict() for event in events]


class _Heard:
    """Outputs of the model for the windows of a recording, and the end of the last one, which is its length."""

    def __init__(self) -> None:
        self.times_s = Rows("d")
        self.scores = Rows("f")
        self.embeddings = Rows("f")
        self.end_s = 0.0

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
