"""Find the tensors of an official layout in what people save around them.

Trainers nest a state dict (`state_dict`, `model`), and wrappers prefix its names (`module.`, `net.`, `_orig_mod.`).
Both are the same here: names are joined with dots, and whatever precedes the names of a layout is a container. So
nothing depends on how a container is called, except which of two sets of weights is an average of the other.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .key_maps import look_up
from .layouts import LAYOUTS, Layout
from .stand_ins import StandIn

# Wrappers that put a name in front of those of the module inside, wherever in the model that module is
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# Words in the names of containers whose weights are averages over the training
AVERAGES = frozenset({"ema", "swa", "avg", "average", "averaged", "averages", "shadow", "polyak"})
# The buffer that `torch.optim.swa_utils.AveragedModel` has beside the model
COUNTER = "n_averaged"
# Where Lightning's `WeightAveraging` keeps the raw weights; its `state_dict` then holds their average
RAW_BESIDE_AVERAGE = "current_model_state"
AVERAGE, RAW = "average", "raw"
MAX_GROUPS = 50
# End of the name of a class -> the head that its checkpoint must have
HEADS_OF = {"ForAudioClassification": "classifier", "ForAudioFrameClassification": "frame_classifier"}


@dataclass(frozen=True)
class Unwrapped:
    """The tensors of one model in a file.

    Args:
        tensors: Names of the official layout, and tensors.
        layout: Their layout. Its class is the backbone if the file has no classifier.
        containers: Names around those of the layout, from the outside.
        weights: Which of two sets of weights it is, "average" or "raw"; "" if the file has one set.
        others: The containers of the sets that were not taken, by "average", "raw" or their own names.
        left_out: What else the file holds, by its containers: how many tensors, or a value.
        stored_as: Types of floating-point numbers that the tensors have in the file.
    """

    tensors: dict[str, Tensor]
    layout: Layout
    containers: tuple[str, ...] = ()
    weights: str = ""
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stored_as: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what was unwrapped, chosen and left out, for conversion.json."""
        return {
            "containers": list(self.containers),
            "weights": self.weights,
            "others": dict(self.others),
            "left_out": dict(self.left_out),
            "stored_as": list(self.stored_as),
        }


@dataclass(frozen=True)
class _Candidate:
    """A place in the content at which the names of a layout begin.

    Args:
        prefix: Segments of names in front of them.
        containers: The same and the wrappers inside, as in the name of the layout's marker.
        layout: The layout.
        tensors: Names in the layout -> tensors.
        names: Names in the content.
        fits: Whether the layout has all names.
        is_counted: Whether the counter of an `AveragedModel` is beside them.
    """

    prefix: tuple[str, ...]
    containers: tuple[str, ...]
    layout: Layout
    tensors: dict[str, Tensor]
    names: frozenset[str]
    fits: bool
    is_counted: bool

    @property
    def label(self) -> str:
        """The containers, joined with dots."""
        return ".".join(self.containers)


@dataclass(frozen=True)
class _Leaf:
    """A value in the content that is no container, with the path to the mapping that holds it."""

    value: Any
    owner: tuple[str, ...]


def unwrap(content: Mapping[str, Any], layouts: Sequence[Layout], weights: str | None = None) -> Unwrapped:
    """Find the tensors of a model in the content of a file.

    Args:
        content: State dict, alone or in any container: nested mappings and lists, prefixes of names, or both.
        layouts: Layouts that the tensors may have; of those with tensors at one place, the first applies.
        weights: Which weights to take where the file has several: "average" or "raw" (if one of two sets has a name
            such as `ema` or `net_swa`, or is an `AveragedModel`), or the container of one set, such as "student". None
            takes the average, and is an error where it is not plain which one that is.

    Raises:
        ValueError: The content has no tensors of these layouts, several sets of them among which `weights` must
            choose, or not those that `weights` names. The message lists what there is.
    """
    leaves = _leaves(content)
    candidates = _candidates(leaves, layouts)
    if not candidates:
        raise ValueError(_nothing_found(leaves, layouts))
    chosen, kind, others = _choose(candidates, weights)
    left_out = {name: leaf for name, leaf in leaves.items() if name not in chosen.names}
    layout = _settled(chosen.layout, chosen.tensors)
    summary = _summary(left_out, chosen.prefix)
    return Unwrapped(chosen.tensors, layout, chosen.containers, kind, others, summary, _types(chosen.tensors))


def _leaves(content: Mapping[str, Any]) -> dict[str, _Leaf]:
    """Return all values by their names, joined with dots; what occurs twice in memory is taken once."""
    leaves: dict[str, _Leaf] = {}
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    while waiting:
        path, value = waiting.pop()
        if _is_container(value):
            if id(value) in seen:
                continue
            seen.add(id(value))
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += reversed([((*path, _key(key)), inner) for key, inner in pairs])
        else:
            name = ".".join(path)
            while name in leaves:  # "a.b" as one key, and "b" in "a"
                name += "'"
            leaves[name] = _Leaf(value, path[:-1])
    return leaves


def _is_container(value: Any) -> bool:
    """Whether a value is a mapping, or a list of anything but plain values."""
    if isinstance(value, list | tuple):
        return any(isinstance(inner, Mapping | list | tuple | Tensor | StandIn) for inner in value)
    return isinstance(value, Mapping)


def _key(key: Any) -> str:
    return key.full_name if isinstance(key, type) and issubclass(key, StandIn) else str(key)


def _candidates(leaves: Mapping[str, _Leaf], layouts: Sequence[Layout]) -> list[_Candidate]:
    """Return every place at which a layout begins, from the outside, without those that belong to another place."""
    # Also those of the other families: the file of one may hold what looks like the image model of another
    foreign = [layout for family in LAYOUTS.values() for layout in family if layout not in layouts]
    places: dict[tuple[str, ...], tuple[Layout, str]] = {}
    for layout in (*layouts, *foreign):
        marker = tuple(layout.marker.split("."))
        for name, leaf in leaves.items():
            if name.endswith(marker[-1]) and isinstance(leaf.value, Tensor):
                prefix = _prefix(tuple(name.split(".")), marker)
                if prefix is not None:
                    places.setdefault(prefix, (layout, name))
    accepted: dict[tuple[str, ...], tuple[Layout, str]] = {}
    for prefix, (layout, name) in sorted(places.items(), key=lambda place: len(place[0])):
        # AST's own names begin with those of the image model inside it
        if not any(
            prefix[: len(outer)] == outer and look_up(_inside(name, outer), known.key_map)[0] is not None
            for outer, (known, _) in accepted.items()
        ):
            accepted[prefix] = (layout, name)
    candidates = [
        _candidate(prefix, layout, name, leaves, [other for other in accepted if other != prefix])
        for prefix, (layout, name) in accepted.items()
        if layout in layouts
    ]
    # Another model in the file may have a tensor that is called like the marker of another layout
    fitting = {candidate.layout.name for candidate in candidates if candidate.fits}
    return [candidate for candidate in candidates if not fitting or candidate.layout.name in fitting]


def _candidate(
    prefix: tuple[str, ...],
    layout: Layout,
    marker_name: str,
    leaves: Mapping[str, _Leaf],
    others: Sequence[tuple[str, ...]],
) -> _Candidate:
    """Gather the tensors at a place. Unknown ones are kept if known ones are beside them: they are errors later on."""
    inner = [other for other in others if other[: len(prefix)] == prefix]
    found: dict[str, tuple[str, _Leaf, bool]] = {}
    for name, leaf in leaves.items():
        segments = tuple(name.split("."))
        if segments[: len(prefix)] != prefix or any(segments[: len(other)] == other for other in inner):
            continue
        inside = _inside(name, prefix)
        known = look_up(inside, layout.key_map)[0] is not None
        if isinstance(leaf.value, Tensor):
            found[name] = (inside, leaf, known)
        elif known:
            raise ValueError(f"state_dict[{name!r}] is a {type(leaf.value).__name__}, but must be a tensor.")
    owners = {leaf.owner for _, leaf, known in found.values() if known}
    tensors: dict[str, Tensor] = {}
    for name, (inside, leaf, _) in list(found.items()):
        if leaf.owner not in owners:
            del found[name]
        elif inside in tensors:
            raise ValueError(f"The file has the tensor {inside!r} twice, as {name!r} and under another name.")
        else:
            tensors[inside] = leaf.value
    containers = _without(tuple(marker_name.split(".")), tuple(layout.marker.split(".")))
    return _Candidate(
        prefix,
        containers,
        layout,
        tensors,
        frozenset(found),
        fits=all(known for _, _, known in found.values()),
        is_counted=any(".".join((*prefix[:depth], COUNTER)) in leaves for depth in range(len(prefix))),
    )


def _prefix(segments: tuple[str, ...], marker: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what precedes a marker, which may have wrappers in it, at the end of a name; None if there is none."""
    position = len(segments)
    for wanted in reversed(marker):
        while position and segments[position - 1] != wanted and segments[position - 1] in WRAPPERS:
            position -= 1
        if not position or segments[position - 1] != wanted:
            return None
        position -= 1
    return segments[:position]


def _inside(name: str, prefix: tuple[str, ...]) -> str:
    """Return a name without its prefix, and without the wrappers in it."""
    return ".".join(segment for segment in name.split(".")[len(prefix) :] if segment not in WRAPPERS)


def _without(segments: tuple[str, ...], marker: tuple[str, ...]) -> tuple[str, ...]:
    """Return the segments that are no part of the marker with which they end."""
    rest, wanted = list(segments), list(marker)
    for position in reversed(range(len(rest))):
        if wanted and rest[position] == wanted[-1]:
            wanted.pop()
            del rest[position]
    return tuple(rest)


def _choose(candidates: Sequence[_Candidate], weights: str | None) -> tuple[_Candidate, str, dict[str, str]]:
    """Return the candidate to take, which kind it is, and the others by their kinds."""
    different = [one for at, one in enumerate(candidates) if not any(_same(one, two) for two in candidates[:at])]
    averages = [candidate for candidate in different if _is_average(candidate, candidates)]
    kinds: dict[str, _Candidate] = {candidate.label: candidate for candidate in different}
    if len(different) == 2 and len(averages) == 1:
        (raw,) = (candidate for candidate in different if candidate not in averages)
        kinds = {AVERAGE: averages[0], RAW: raw}
    listing = ", ".join(_described(kind, candidate) for kind, candidate in kinds.items())
    if weights is None and len(different) > 1 and AVERAGE not in kinds:
        raise ValueError(f"The file has several sets of weights: {listing}; choose one by its name with --weights.")
    wanted = weights or (AVERAGE if AVERAGE in kinds else next(iter(kinds)))
    if len(different) == 1 and wanted == (AVERAGE if averages else RAW):
        wanted = next(iter(kinds))
    named = [kind for kind, candidate in kinds.items() if _has_name(candidate, wanted)]
    kind = wanted if wanted in kinds else named[0] if len(named) == 1 else None
    if kind is None:
        raise ValueError(f"weights={weights!r} is not one set of weights in the file, which has {listing}.")
    others = {name: other.label for name, other in kinds.items() if name != kind}
    return kinds[kind], kind if others else (AVERAGE if averages else ""), others


def _has_name(candidate: _Candidate, name: str) -> bool:
    """Whether a name is one of the containers, or several of them in a row; "." is the outside of all."""
    return f".{name.strip('.')}." in f".{candidate.label}." if name.strip(".") else not candidate.label


def _described(kind: str, candidate: _Candidate) -> str:
    label = candidate.label or "(without a container)"
    return f"{kind} ({label})" if kind in (AVERAGE, RAW) else label


def _same(one: _Candidate, two: _Candidate) -> bool:
    return one.tensors.keys() == two.tensors.keys() and all(
        torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items()
    )


def _is_average(candidate: _Candidate, candidates: Sequence[_Candidate]) -> bool:
    """Whether the containers of a candidate, other than those that all have, speak of averages, or what is beside."""
    others = [other for other in candidates if other is not candidate]
    if candidate.is_counted or any(RAW_BESIDE_AVERAGE in other.containers for other in others):
        return RAW_BESIDE_AVERAGE not in candidate.containers
    shared = set.intersection(*(set(other.containers) for other in candidates)) if len(candidates) > 1 else set()
    words = re.split(
        r"[^a-z]+",
        " ".join(
            re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name) for name in candidate.containers if name not in shared
        ).lower(),
    )
    return not AVERAGES.isdisjoint(words)


def _settled(layout: Layout, tensors: Mapping[str, Tensor]) -> Layout:
    """Return the layout with the first of its classes whose head is in the file, else that of the backbone."""
    targets = (look_up(name, layout.key_map)[0] for name in tensors)
    heads = {target.partition(".")[0] for target in targets if isinstance(target, str)}
    for model_class in (layout.model_class, *layout.with_fewer_heads):
        head = next((head for suffix, head in HEADS_OF.items() if model_class.__name__.endswith(suffix)), None)
        if head is None or head in heads:
            return dataclasses.replace(layout, model_class=model_class)
    backbone: type[PreTrainedModel] = layout.model_class.backbone_class  # type: ignore[attr-defined]
    return dataclasses.replace(layout, model_class=backbone)


def _summary(left_out: Mapping[str, _Leaf], prefix: tuple[str, ...]) -> dict[str, str]:
    """Say what was left out, in groups: each up to the first segment that differs from the containers taken."""
    groups: dict[str, list[Any]] = {}
    for name, leaf in left_out.items():
        segments = name.split(".")
        shared = next((at for at, pair in enumerate(zip(segments, prefix, strict=False)) if pair[0] != pair[1]), None)
        depth = (min(len(prefix), len(segments) - 1) if shared is None else shared) + 1
        groups.setdefault(".".join(segments[:depth]), []).append(leaf.value)
    texts = {name: _what(values) for name, values in list(groups.items())[:MAX_GROUPS]}
    if len(groups) > MAX_GROUPS:
        texts["..."] = f"and {len(groups) - MAX_GROUPS} others"
    return texts


def _types(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.is_floating_point()}
    return tuple(sorted(types))


def _what(values: Sequence[Any]) -> str:
    num_tensors = sum(isinstance(value, Tensor) for value in values)
    if num_tensors:
        rest = f" and {len(values) - num_tensors} other values" if len(values) > num_tensors else ""
        return f"{num_tensors} tensor{'s' if num_tensors > 1 else ''}{rest}"
    if len(values) > 1:
        return f"{len(values)} values"
    (value,) = values
    if isinstance(value, StandIn):
        return f"an object of {value.full_name}"
    is_class = isinstance(value, type)
    return value.__name__.strip("<>") if is_class else f"{value!r:.60}"


def _nothing_found(leaves: Mapping[str, _Leaf], layouts: Sequence[Layout]) -> str:
    objects = [
        f"{name!r} is a {leaf.value.full_name}" for name, leaf in leaves.items() if isinstance(leaf.value, StandIn)
    ]
    if objects and not any(isinstance(leaf.value, Tensor) for leaf in leaves.values()):
        if all("numpy" in text for text in objects):
            return (
                f"The file has no tensors, but arrays of numpy, such as {objects[0].partition(' is ')[0]}. Make "
                "tensors of them with torch.from_numpy, save these with torch.save, and convert that file."
            )
        return (
            f"The file has no tensors, but objects that only code can open: {', '.join(objects[:3])}. Nothing of them "
            "was run. Where a model was made: torch.save(model.state_dict(), 'weights.pth'); then convert that file."
        )
    markers = {layout.name: layout.marker for layout in layouts}
    names = sorted(name for name, leaf in leaves.items() if isinstance(leaf.value, Tensor))
    family = getattr(layouts[0].model_class.config_class, "__name__", "this family")
    return f"state_dict is in no layout known for {family}: it has none of {markers}, but {names[:5]} ..."
