"""What the registry says about a released checkpoint, and what follows from it."""

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedConfig, SequenceFeatureExtractor

from hf_ast import HfASTConfig, HfASTFeatureExtractor, PaSSTConfig, PaSSTFeatureExtractor, SSASTConfig

MULTI_LABEL, SINGLE_LABEL = "multi_label_classification", "single_label_classification"
# File of labels/ -> problem type; the names are in the order of the official files
LABEL_SETS = {
    "audioset_527": MULTI_LABEL,
    "fsd50k_200": MULTI_LABEL,
    "openmic_20": MULTI_LABEL,
    "esc50": SINGLE_LABEL,
    "speech_commands_v2_35": SINGLE_LABEL,
}
FAMILIES = {
    "ast": (HfASTConfig, HfASTFeatureExtractor),
    "ssast": (SSASTConfig, HfASTFeatureExtractor),
    "passt": (PaSSTConfig, PaSSTFeatureExtractor),
}
# Models that are ours to publish go here
HUB_NAMESPACE = "hf-ast"


@cache
def label_names(label_set: str) -> tuple[str, ...]:
    """Names of the classes, in the order of the logits."""
    path = Path(__file__).parent / "labels" / f"{label_set}.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))["names"])


def file_name(url: str) -> str:
    """Last part of the path of a URL."""
    return url.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True)
class Metric:
    """A published result.

    Args:
        name: Such as "mAP", or "accuracy".
        value: As a share of 1 for both.
        dataset: What it was measured on.
        source: URL of the page that says so.
    """

    name: str
    value: float
    dataset: str
    source: str


@dataclass(frozen=True)
class Checkpoint:
    """A released checkpoint.

    Args:
        name: In our scheme, family-size-kind-geometry-data-result; also the name of its folder and Hub repository.
        family: "ast", "ssast" or "passt".
        title: One line for people.
        urls: Where the file is, the official place first. The file name of the first is the file's name.
        pages: Pages from which a browser gets the file where no link of `urls` works.
        sha256: Of the file, or its first digits where only they are known; "" if nobody published it.
        config: Fields of the config that are not the family's defaults.
        front_end: Arguments of the feature extractor that are not the family's defaults.
        label_set: Key of `LABEL_SETS`, or None without a classification head.
        metrics: Published results.
        datasets: What it was trained on, in order.
        license: SPDX identifier.
        license_note: Where the licence comes from, and what is not said.
        repository: URL of the official code.
        paper: arXiv number.
        aliases: What else it is called: file names, names in other code, Hub ids.
    """

    name: str
    _: KW_ONLY
    family: str
    title: str
    urls: tuple[str, ...]
    pages: tuple[str, ...] = ()
    sha256: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    front_end: Mapping[str, Any] = field(default_factory=dict)
    label_set: str | None = None
    metrics: tuple[Metric, ...] = ()
    datasets: tuple[str, ...]
    license: str
    license_note: str
    repository: str
    paper: str
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("config", "front_end"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def file_name(self) -> str:
        """Name of the official file."""
        return file_name(self.urls[0])

    @property
    def hub_id(self) -> str:
        """Repository that `publish` is meant for."""
        return f"{HUB_NAMESPACE}/{self.name}"

    def build_config(self, **changes: Any) -> PreTrainedConfig:
        """Config with labels and problem type; `changes` win."""
        config_class, _ = FAMILIES[self.family]
        fields = dict(self.config)
        if self.label_set is not None:
            names = label_names(self.label_set)
            fields["id2label"] = dict(enumerate(names))
            fields["label2id"] = {name: index for index, name in enumerate(names)}
            fields["problem_type"] = LABEL_SETS[self.label_set]
        return config_class(**fields | changes)

    def build_feature_extractor(self, **changes: Any) -> SequenceFeatureExtractor:
        """Front end with the statistics of the training data; `changes` win."""
        _, feature_extractor_class = FAMILIES[self.family]
        return feature_extractor_class(**dict(self.front_end) | changes)
