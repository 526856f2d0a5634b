"""An entry of the registry: a released checkpoint, and the config and feature extractor that follow from it."""

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedConfig

from hf_ast.auto import load
from hf_ast.families import BY_NAME
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

MULTI_LABEL, SINGLE_LABEL = "multi_label_classification", "single_label_classification"
# Name of a file in labels/ -> problem type
LABEL_SETS = {
    "audioset_527": MULTI_LABEL,
    "audioset_strong_447": MULTI_LABEL,
    "fsd50k_200": MULTI_LABEL,
    "openmic_20": MULTI_LABEL,
    "discogs_400": MULTI_LABEL,
    "discogs_519": MULTI_LABEL,
    "esc50": SINGLE_LABEL,
    "speech_commands_v2_35": SINGLE_LABEL,
}
# Namespace on the Hub under which our conversions are published
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
        name: Name of the measure, such as "mAP" or "accuracy".
        value: Between 0 and 1.
        dataset: What the model was evaluated on.
        source: URL of the page that states the result.
    """

    name: str
    value: float
    dataset: str
    source: str


@dataclass(frozen=True)
class Checkpoint:
    """A released checkpoint.

    Args:
        name: Our name, composed of family, size, kind, geometry, data and result; also the name of the folder and the
            Hub repository.
        family: Name in `hf_ast.families`.
        title: Description in one line.
        urls: Where the file can be downloaded, the official place first. The first URL gives the name of the file.
        pages: Web pages that offer the file in a browser if no URL works.
        sha256: Digest of the file, or its first digits if only those are published; "" if there is none.
        config: Fields of the config that differ from the family's defaults.
        front_end: Arguments of the feature extractor that differ from the family's defaults.
        label_set: Key of `LABEL_SETS`; None for a model without a classification head.
        metrics: Published results.
        datasets: Training datasets, in order.
        license: SPDX identifier; "" if the authors state none.
        license_note: Where the licence is stated, and what that leaves open.
        repository: URL of the official code.
        paper: arXiv number.
        remarks: What the authors do not state about the file, in sentences for its card.
        aliases: Other names: of files, in other code, and on the Hub.
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
    remarks: tuple[str, ...] = ()
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
        """Repository to which we publish the conversion."""
        return f"{HUB_NAMESPACE}/{self.name}"

    def build_config(self, **changes: Any) -> PreTrainedConfig:
        """Build the config, with labels, problem type and frame shift; `changes` take precedence."""
        extractor = self.feature_extractor_class(**self.front_end)
        fields = {"frame_shift_s": extractor.frame_shift / extractor.sampling_rate} | dict(self.config)
        if self.label_set is not None:
            names = label_names(self.label_set)
            fields["id2label"] = dict(enumerate(names))
            fields["label2id"] = {name: index for index, name in enumerate(names)}
            fields["problem_type"] = LABEL_SETS[self.label_set]
        config: PreTrainedConfig = self.config_class(**fields | changes)
        return config

    def build_feature_extractor(self, **changes: Any) -> SpectrogramFeatureExtractor:
        """Build the feature extractor, with the statistics of the training data; `changes` take precedence."""
        min_length = self.config_class(**self.config).min_frames
        values = {"min_length": min_length} | dict(self.front_end) | changes
        extractor: SpectrogramFeatureExtractor = self.feature_extractor_class(**values)
        return extractor

    @property
    def config_class(self) -> Any:
        """Class of the config of the family."""
        return load(BY_NAME[self.family].config)

    @property
    def feature_extractor_class(self) -> Any:
        """Class of the feature extractor of the family."""
        return load(BY_NAME[self.family].feature_extractor)
