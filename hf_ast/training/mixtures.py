"""Recordings without labels from one or several sources, each with its share in training."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_ast.data.checking import check_recordings, noting
from hf_ast.data.entries import find_entries
from hf_ast.data.labelled import Clip, Recordings
from hf_ast.data.sources import Source, as_source
from hf_ast.data.splitting import TRAIN, VALIDATION

from .output import digest


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Recordings of several sources.

    Attributes:
        parts: The recordings of each source that are trained on ("train") or evaluated on ("validation").
        weights: Share of each source in the crops of an epoch, summing to 1; None for shares by duration.
        num_left_out: Recordings of each source that are used for neither, because of the split that it names.
    """

    parts: list[Recordings]
    weights: list[float] | None
    num_left_out: list[int]

    def has(self, split: str) -> bool:
        """Whether there are recordings in a split."""
        return any(part.of(split) for part in self.parts)

    def record(self) -> dict[str, Any]:
        """What identifies a training run on these recordings."""
        recordings = [
            {
                "source": part.source.location,
                "num_training": len(part.of(TRAIN)),
                "num_evaluation": len(part.of(VALIDATION)),
                "num_left_out": num_left_out,
                "sha256": digest(part.clips),
            }
            for part, num_left_out in zip(self.parts, self.num_left_out, strict=True)
        ]
        return {
            "recordings": recordings,
            "weights": self.weights,
            "skipped": [part.skipped for part in self.parts],
            "warned": [part.warned for part in self.parts],
        }

    def reasons(self) -> tuple[dict[str, str], dict[str, str]]:
        """Say by name why recordings were skipped, and what is wrong with others; several sources are named, too."""
        skipped: dict[str, str] = {}
        warned: dict[str, str] = {}
        for part in self.parts:
            source = "" if len(self.parts) == 1 else f"{part.source.location}: "
            skipped |= {f"{source}{name}": reason for name, reason in part.skipped.items()}
            warned |= {f"{source}{name}": reason for name, reason in part.warned.items()}
        return skipped, warned

    def describe(self) -> Iterator[str]:
        """Say what each source has, and what was skipped, as lines of text."""
        for number, part in enumerate(self.parts):
            training = part.of(TRAIN)
            hours = sum(clip.duration_s for clip in training) / 3600
            line = f"{part.source.location}: {len(training)} recordings ({hours:.3g} h) to train on"
            line += f", {len(part.of(VALIDATION))} to evaluate on"
            if self.num_left_out[number]:
                line += f", {self.num_left_out[number]} left out, which the source calls validation or test"
            if self.weights is not None:
                line += f"; {self.weights[number]:.1%} of the crops"
            yield line
            yield from part.describe_skipped()


def read_mixture(
    data: Any,
    *,
    weights: Sequence[float] | None = None,
    split_column: str = "split",
    audio_folder: str | os.PathLike[str] | None = None,
    whole_files: bool = False,
    subset: str | None = None,
    num_eval: int = 200,
    min_duration_s: float = 0.0,
    seed: int = 0,
    progress: bool = False,
) -> Mixture:
    """Find recordings without labels, read their headers, and hold some out for evaluation.

    Every recording is used, or skipped and named in `skipped`, or counted in `num_left_out`. Where a source names
    splits, found as in `read_data`, its training split is trained on, some recordings of its validation split are
    evaluated on, and its test split is left out. Where it names no validation split, some of its training recordings
    are held out.

    Args:
        data: A source, or a list of several: each a folder, a manifest, or a data set as in `read_data`. Columns of
            labels are not needed.
        weights: One for each source: its share of the crops of an epoch is its weight divided by their sum. By default
            every crop of every source is used once, so that the shares are those of their durations.
        split_column: Column of splits; it need not exist.
        audio_folder: Folder to which paths in manifests are relative; those of the manifests if None.
        whole_files: Whether the rows of manifests are whole recordings, although there are columns of times.
        subset: Subset of the data sets among the sources; for a single one of them, give what
            `find_source(id, subset=...)` returns.
        num_eval: Number of recordings to evaluate on, from each source in proportion to its share; at most a tenth of
            the recordings of a source that names none for validation.
        min_duration_s: Recordings that are shorter are skipped; a model takes any that holds a sample.
        seed: Seed of the choice of recordings to evaluate on.
        progress: Whether to show progress bars on stderr.

    Raises:
        ValueError: A source has no recording to train on, or the weights are wrong.
    """
    sources = list(data) if isinstance(data, list | tuple) else [data]
    shares = _shares(weights, len(sources))
    if num_eval < 0:
        raise ValueError(f"num_eval={num_eval} must not be negative; 0 holds out nothing.")
    found = []
    for place in _places(sources, subset):
        warned: dict[str, str] = {}
        entries = find_entries(
            place,
            split_column=split_column,
            group_column="",
            audio_folder=audio_folder,
            labelled=False,
            whole_files=whole_files,
            warn=noting(warned, place.location),
        )
        checked = check_recordings(place, entries, min_duration_s, decode=False, progress=progress)
        clips = [
            Clip(
                name=entry.name,
                index=entry.index,
                split=entry.split or TRAIN,
                duration_s=duration_s,
                start_s=entry.start_s,
                end_s=None if entry.end_s is None else entry.start_s + duration_s,
            )
            for entry, duration_s in checked.usable
        ]
        skipped = checked.skipped
        part = Recordings(
            source=place,
            clips=clips,
            skipped=skipped,
            warned=warned | checked.warned,
            failed=frozenset(skipped),
        )
        if not part.of(TRAIN):
            reasons = ", ".join(f"{name!r}: {reason}" for name, reason in list(skipped.items())[:3])
            raise ValueError(
                f"data: {place.location!r} holds no readable recording to train on ({len(skipped)} skipped"
                f"{', ' if reasons else ''}{reasons}; {len(clips)} that it calls validation or test)."
            )
        found.append(part)
    of_duration = [sum(clip.duration_s for clip in part.of(TRAIN)) for part in found]
    parts = []
    for number, part in enumerate(found):
        share = of_duration[number] / sum(of_duration) if shares is None else shares[number]
        parts.append(_held_out(part, round(num_eval * share), np.random.default_rng((seed, number))))
    num_left_out = [len(part.clips) - len(kept.clips) for part, kept in zip(found, parts, strict=True)]
    return Mixture(parts=parts, weights=shares, num_left_out=num_left_out)


def _shares(weights: Sequence[float] | None, num_sources: int) -> list[float] | None:
    if num_sources == 0:
        raise ValueError("data is empty; give at least one source.")
    if weights is None:
        return None
    if len(weights) != num_sources:
        raise ValueError(f"weights={list(weights)} must hold one for each of the {num_sources} sources of data.")
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(
            f"weights={list(weights)} must be positive numbers; leave out a source that is not to be used."
        )
    return [weight / sum(weights) for weight in weights]


def _places(sources: Sequence[Any], subset: str | None) -> list[Source]:
    places = [as_source(source) for source in sources]
    if subset is None:
        return places
    if not any(place.kind == "dataset" for place in places):
        raise ValueError(f"subset={subset!r} has no meaning, as no source of data is a data set.")
    return [replace(place, subset=subset) if place.kind == "dataset" else place for place in places]


def _held_out(part: Recordings, num_eval: int, rng: np.random.Generator) -> Recordings:
    """Choose the recordings to evaluate on, and drop those that are used neither for this nor for training.

    All segments of a recording stay together.
    """
    pool_split = VALIDATION if part.of(VALIDATION) else TRAIN
    names = list(dict.fromkeys(clip.name for clip in part.of(pool_split)))
    if pool_split == TRAIN:
        num_eval = min(num_eval, len(names) // 10)
    chosen = {names[number] for number in rng.permutation(len(names))[:num_eval]}
    kept = []
    for clip in part.clips:
        if clip.split == pool_split and clip.name in chosen:
            kept.append(replace(clip, split=VALIDATION))
        elif clip.split == TRAIN:
            kept.append(clip)
    return replace(part, clips=kept)
