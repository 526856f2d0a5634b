"""Model cards: what the registry, a converted folder and its verification say, for people and for the Hub."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors import safe_open
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedConfig, SequenceFeatureExtractor

import hf_ast  # noqa: F401  Registers our classes

from .checkpoint import MULTI_LABEL, Checkpoint, Metric, file_name
from .folders import read_provenance
from .registry import find
from .verification import TensorComparison, read_verification

# In the wheel the templates are inside this package, in a checkout beside it
MODEL_CARDS = next(path for parent in Path(__file__).parents[:2] if (path := parent / "model_cards").is_dir())
AUDIO_CLASSIFICATION = "audio-classification"
# Ending of the class's name -> what the card shows
KINDS = {"ForAudioClassification": "classifier", "ForPreTraining": "pretraining", "Model": "backbone"}
FAMILY_NAMES = {
    "ast": "AST (Audio Spectrogram Transformer)",
    "ssast": "SSAST (Self-Supervised Audio Spectrogram Transformer)",
    "passt": "PaSST (Patchout faSt Spectrogram Transformer)",
}
FRONT_END_TAGS = {"ast": "kaldi-fbank", "ssast": "kaldi-fbank", "passt": "mel-spectrogram"}
# The registry's names -> datasets on the Hub. Others are named in the text only
DATASETS = {
    "AudioSet-20K": "agkphysics/AudioSet",
    "AudioSet-2M": "agkphysics/AudioSet",
    "ESC-50": "ashraq/esc50",
    "FSD50K": "Fhrozen/FSD50k",
    "ImageNet-1k": "ILSVRC/imagenet-1k",
    "LibriSpeech-960h": "openslr/librispeech_asr",
    "Speech Commands V2": "google/speech_commands",
}
# Where the training of AST and PaSST on sounds starts
IMAGE_MODEL = "facebook/deit-base-distilled-patch16-384"


def write_card(folder: Path, repo_id: str | None = None) -> Path:
    """Write README.md into a converted folder; arguments and errors as in `render_card`."""
    path = folder / "README.md"
    path.write_text(render_card(folder, repo_id), encoding="utf-8")
    return path


def render_card(folder: Path, repo_id: str | None = None) -> str:
    """The model card of a converted folder.

    Args:
        folder: Made by `convert_file`, verified or not.
        repo_id: Repository that the snippets load from; the registry's if None, or the folder's name where the
            source is not the released file.

    Raises:
        ValueError: No conversion made the folder.
    """
    provenance = read_provenance(folder)
    checkpoint = find(provenance["checkpoint"])
    card = model_card(
        checkpoint,
        provenance,
        AutoConfig.from_pretrained(folder),
        AutoFeatureExtractor.from_pretrained(folder),
        num_parameters=_num_parameters(folder),
        repo_id=repo_id or (checkpoint.hub_id if is_released(checkpoint, provenance) else folder.resolve().name),
    )
    return str(card) + "\n"


def model_card(
    checkpoint: Checkpoint,
    provenance: Mapping[str, Any],
    config: PreTrainedConfig,
    feature_extractor: SequenceFeatureExtractor,
    *,
    num_parameters: int,
    repo_id: str,
) -> ModelCard:
    """The model card of a conversion.

    Args:
        checkpoint: What the source is, or what it is like.
        provenance: Content of conversion.json.
        config, feature_extractor: Those of the converted folder; `architectures` names the class.
        num_parameters: Of the converted model.
        repo_id: Repository that the snippets load from.
    """
    released = is_released(checkpoint, provenance)
    changes = provenance["changes"] | provenance.get("front_end_changes", {})
    source = provenance["source"]
    verification = read_verification(provenance)
    tensors = verification.tensors if verification is not None else TensorComparison()
    metrics = checkpoint.metrics if released and not changes else ()
    return ModelCard.from_template(
        card_data(checkpoint, kind=kind_of(config), released=released, metrics=metrics),
        template_path=str(MODEL_CARDS / "template.md"),
        title=checkpoint.title if released else source["file"],
        released=released,
        checkpoint=checkpoint,
        source=source,
        changes=changes,
        converter=provenance["hf_ast"],
        paper_url=f"https://arxiv.org/abs/{checkpoint.paper}",
        family_name=FAMILY_NAMES[checkpoint.family],
        class_name=config.architectures[0],
        kind=kind_of(config),
        config=config,
        multi_label=config.problem_type == MULTI_LABEL,
        num_parameters=num_parameters,
        extractor=feature_extractor,
        extractor_name=type(feature_extractor).__name__,
        repo_id=repo_id,
        metrics=metrics,
        hub_copies=[alias for alias in checkpoint.aliases if "/" in alias],
        verification=verification,
        derived=_grouped(tensors.derived),
        dropped=_grouped(tensors.dropped),
        new_tensors=_names(tensors.new),
        citation=(MODEL_CARDS / f"{checkpoint.paper}.bib").read_text(encoding="utf-8").strip(),
    )


def card_data(checkpoint: Checkpoint, *, kind: str, released: bool, metrics: Iterable[Metric]) -> ModelCardData:
    """Metadata for the Hub.

    What is true of the released file only (licence, training, results) is left out for any other one.
    """
    tags = ("audio-spectrogram-transformer", checkpoint.family, "audio", FRONT_END_TAGS[checkpoint.family], "hf-ast")
    facts: dict[str, Any] = {}
    if released:
        names = (DATASETS[name] for name in checkpoint.datasets if name in DATASETS)
        facts = {"license": checkpoint.license.lower(), "datasets": list(dict.fromkeys(names)) or None}
        # The Hub knows no relation for a copy in another layout, such as MIT/ast-finetuned-*: those are in the text
        if kind == "classifier" and checkpoint.datasets[0] == "ImageNet-1k":
            facts |= {"base_model": IMAGE_MODEL, "base_model_relation": "finetune"}
    if results := eval_results(checkpoint, metrics) if kind == "classifier" else ():
        facts |= {"model_name": checkpoint.name, "eval_results": results}
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=AUDIO_CLASSIFICATION if kind == "classifier" else "feature-extraction",
        tags=list(dict.fromkeys(tags)),
        **facts,
    )


def eval_results(checkpoint: Checkpoint, metrics: Iterable[Metric]) -> list[EvalResult]:
    """The published results on a dataset that the Hub has."""
    dataset = DATASETS.get(checkpoint.datasets[-1])  # trained last on what it is measured on
    return [
        EvalResult(
            task_type=AUDIO_CLASSIFICATION,
            dataset_type=dataset,
            dataset_name=metric.dataset,
            metric_type=metric.name,
            metric_value=metric.value,
            source_name="published by the authors",
            source_url=metric.source,
        )
        for metric in metrics
        if dataset is not None
    ]


def is_released(checkpoint: Checkpoint, provenance: Mapping[str, Any]) -> bool:
    """Whether the source is the released file itself, by its URL or name and what is known of its digest."""
    source = provenance["source"]
    named = source["url"] in checkpoint.urls or source["file"] in {file_name(url) for url in checkpoint.urls}
    return named and source["sha256"].startswith(checkpoint.sha256)


def kind_of(config: PreTrainedConfig) -> str:
    """What a model is for, by its class: a value of `KINDS`."""
    (name,) = config.architectures
    return next(value for ending, value in KINDS.items() if name.endswith(ending))


def _num_parameters(folder: Path) -> int:
    """From the headers of the weight files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total


def _grouped(reasons: Mapping[str, str]) -> dict[str, str]:
    """Tensor -> reason, as reason -> tensors."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return {reason: _names(names) for reason, names in groups.items()}


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
