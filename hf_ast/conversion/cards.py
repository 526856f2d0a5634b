"""Model cards, written from the registry, a converted folder and its verification."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors import safe_open
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedConfig, SequenceFeatureExtractor

import hf_ast  # noqa: F401  Registers our classes
from hf_ast.families import BY_NAME
from hf_ast.opening import open_safely
from hf_ast.text import code, markdown
from hf_ast.whole import whole_file

from .assumptions import grouped_assumptions
from .checkpoint import MULTI_LABEL, Checkpoint, Metric
from .folders import is_released, read_provenance
from .registry import find
from .verification import TensorComparison, read_verification

MODEL_CARDS = Path(__file__).parent / "model_cards"
AUDIO_CLASSIFICATION = "audio-classification"
# Ending of a class name -> the kind of model that the card describes
KINDS = {
    "ForAudioClassification": "classifier",
    "ForAudioFrameClassification": "frames",
    "ForPreTraining": "pretraining",
    "Model": "backbone",
}
# Those with labels
CLASSIFIERS = ("classifier", "frames")
# Names in the registry -> datasets on the Hub; other datasets are named in the text only
DATASETS = {
    "AudioSet-20K": "agkphysics/AudioSet",
    "AudioSet-2M": "agkphysics/AudioSet",
    "ESC-50": "ashraq/esc50",
    "FSD50K": "Fhrozen/FSD50k",
    "ImageNet-1k": "ILSVRC/imagenet-1k",
    "LibriSpeech-960h": "openslr/librispeech_asr",
    "Speech Commands V2": "google/speech_commands",
}
CARD = "README.md"
# What the Hub calls a licence that is not stated
NO_LICENSE = "unknown"
# The image model from which AST and PaSST are initialised
IMAGE_MODEL = "facebook/deit-base-distilled-patch16-384"


def write_card(folder: Path, repo_id: str | None = None) -> Path:
    """Write README.md into a converted folder; arguments and errors as in `render_card`."""
    path = folder / CARD
    card = render_card(folder, repo_id)
    with whole_file(path) as partial:
        partial.write_text(card, encoding="utf-8")
    return path


def render_card(folder: Path, repo_id: str | None = None) -> str:
    """Render the model card of a converted folder.

    Args:
        folder: Made by `convert_file`, verified or not.
        repo_id: Repository from which the snippets load. If None, the registry's for a released file, and the name
            of the folder for any other one.

    Raises:
        ValueError: The folder was not made by a conversion.
    """
    provenance = read_provenance(folder)
    checkpoint = find(provenance["checkpoint"])
    released = is_released(checkpoint, provenance["source"])
    card = model_card(
        checkpoint,
        provenance,
        open_safely(AutoConfig, folder),
        open_safely(AutoFeatureExtractor, folder),
        num_parameters=_num_parameters(folder),
        repo_id=repo_id or (checkpoint.hub_id if released else folder.resolve().name),
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
    """Build the model card of a conversion.

    Args:
        checkpoint: Entry of the registry for the source file, or for a released file of the same kind.
        provenance: Content of conversion.json.
        config: Config of the converted folder; its field `architectures` names the class.
        feature_extractor: Feature extractor of the converted folder.
        num_parameters: Number of parameters of the converted model.
        repo_id: Repository from which the snippets load.
    """
    released = is_released(checkpoint, provenance["source"])
    assert config.architectures, "save_pretrained records the class"
    class_name = config.architectures[0]
    changes = provenance["changes"] | provenance.get("front_end_changes", {})
    source = provenance["source"]
    verification = read_verification(provenance)
    tensors = verification.tensors if verification is not None else TensorComparison()
    metrics = checkpoint.metrics if released and not changes else ()
    return ModelCard.from_template(
        card_data(checkpoint, kind=kind_of(class_name), released=released, metrics=metrics),
        template_path=str(MODEL_CARDS / "template.md"),
        title=checkpoint.title if released else markdown(source["file"]),
        released=released,
        checkpoint=checkpoint,
        source={name: code(str(value)) if name == "file" else value for name, value in source.items()},
        changes={
            name: value if isinstance(value, int | float | Mapping) else code(str(value))
            for name, value in changes.items()
        },
        converter=provenance["hf_ast"],
        paper_url=f"https://arxiv.org/abs/{checkpoint.paper}",
        family_name=BY_NAME[checkpoint.family].title,
        class_name=class_name,
        kind=kind_of(class_name),
        config=config,
        multi_label=config.problem_type == MULTI_LABEL,
        num_parameters=num_parameters,
        extractor=feature_extractor,
        extractor_name=type(feature_extractor).__name__,
        repo_id=code(repo_id),
        metrics=metrics,
        hub_copies=[alias for alias in checkpoint.aliases if "/" in alias],
        verification=verification,
        unwrapped=_unwrapped(provenance.get("unwrapped", {})),
        assumed={
            source: markdown(fields) for source, fields in grouped_assumptions(provenance.get("assumed", {})).items()
        },
        derived=_grouped(tensors.derived),
        dropped=_grouped(tensors.dropped),
        new_tensors=_names(tensors.new),
        citation=(MODEL_CARDS / f"{checkpoint.paper}.bib").read_text(encoding="utf-8").strip(),
    )


def card_data(checkpoint: Checkpoint, *, kind: str, released: bool, metrics: Iterable[Metric]) -> ModelCardData:
    """Build the metadata for the Hub.

    Licence, training data and results hold for the released file only, and are left out for any other file.
    """
    family = BY_NAME[checkpoint.family]
    tags = ("audio-spectrogram-transformer", family.name, "audio", family.front_end, "hf-ast")
    facts: dict[str, Any] = {}
    if released:
        names = (DATASETS[name] for name in checkpoint.datasets if name in DATASETS)
        facts = {"license": checkpoint.license.lower() or NO_LICENSE, "datasets": list(dict.fromkeys(names)) or None}
        # The Hub has no relation for a copy in another layout (MIT/ast-finetuned-*); the text links to it instead
        if kind in CLASSIFIERS and checkpoint.datasets[0] == "ImageNet-1k":
            facts |= {"base_model": IMAGE_MODEL, "base_model_relation": "finetune"}
    if results := eval_results(checkpoint, metrics) if kind in CLASSIFIERS else ():
        facts |= {"model_name": checkpoint.name, "eval_results": results}
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=AUDIO_CLASSIFICATION if kind in CLASSIFIERS else "feature-extraction",
        tags=list(dict.fromkeys(tags)),
        **facts,
    )


def eval_results(checkpoint: Checkpoint, metrics: Iterable[Metric]) -> list[EvalResult]:
    """List the published results, if their dataset is on the Hub."""
    dataset = DATASETS.get(checkpoint.datasets[-1])  # a model is evaluated on the data of its last training
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


def kind_of(class_name: str) -> str:
    """Return the kind of a model by the name of its class: a value of `KINDS`."""
    return next(kind for ending, kind in KINDS.items() if class_name.endswith(ending))


def _num_parameters(folder: Path) -> int:
    """Count the parameters from the headers of the weight files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total


def _grouped(reasons: Mapping[str, str]) -> dict[str, str]:
    """Turn a mapping from tensor to reason into one from reason to tensors."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return {reason: _names(names) for reason, names in groups.items()}


def _unwrapped(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what was unwrapped and left out as plain text, which no name in a file can break out of."""
    left_out = record.get("left_out", {})
    return {
        "containers": markdown(".".join(record["containers"])) if record.get("containers") else "",
        "weights": record.get("weights", ""),
        "stored_as": ", ".join(name for name in record.get("stored_as", ()) if name != "float32"),
        "left_out": ", ".join(f"{markdown(name)} ({markdown(what)})" for name, what in left_out.items()),
    }


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
