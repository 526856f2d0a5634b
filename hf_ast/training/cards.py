"""What is written beside a trained model: metrics, a figure, the model card. Needs the extras `train` and `plot`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers import PreTrainedModel

import hf_ast
from hf_ast.data.labelled import LabelledData
from hf_ast.data.splitting import SPLITS, TEST
from hf_ast.data.strong_labels import StronglyLabelledData
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.text import code, markdown
from hf_ast.whole import whole_file

from .evaluate import Evaluation
from .event_evaluation import EventEvaluation
from .presets import Preset

TEMPLATE = Path(__file__).with_name("model_card.md")
METRICS, FIGURE, CARD = "metrics.json", "results.png", "README.md"
# Largest number of classes that the card lists; metrics.json has all of them
MAX_CLASSES = 60


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """How a model was trained.

    Attributes:
        source: The checkpoint that it started from, as the user named it.
        preset: Name of the recipe.
        settings: The recipe, with the changes to it; None for a linear classifier on frozen embeddings.
        num_steps: Number of optimiser steps.
        seed: Seed of the training run.
        license: Licence of the result, as the Hub names it; None if it is not known.
        license_is_inherited: Whether it is the licence of the checkpoint.
        best_step: Step whose weights were kept; None if the last ones or an average were.
        remarks: What makes the training or its result uncertain, in sentences.
    """

    source: str
    preset: str
    settings: Preset | None
    num_steps: int
    seed: int
    license: str | None
    license_is_inherited: bool
    best_step: int | None
    remarks: Sequence[str] = ()


def source_license(model: str, revision: str | None = None, token: str | bool | None = None) -> str | None:
    """Return the licence in the card of a model, as the Hub names it; None if no card or no licence is found.

    Args:
        model: A folder, such as one that `hf-ast convert` made, or the id of a model on the Hub.
        revision, token: As in `hf_ast.load_classifier`.
    """
    card = Path(model) / CARD
    if not Path(model).is_dir():
        try:
            card = Path(hf_hub_download(model, CARD, revision=revision, token=token))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
            return None
    if not card.is_file():
        return None
    found = ModelCard.load(card).data.get("license")
    return found if isinstance(found, str) and found != "unknown" else None


def write_results(
    folder: Path,
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    evaluation: Evaluation | EventEvaluation | None,
    split: str | None,
    facts: TrainingFacts,
    *,
    repo_id: str | None = None,
) -> None:
    """Write metrics.json, results.png and README.md beside a saved model.

    Args:
        folder: Folder of the model.
        model, feature_extractor: As they were saved in it.
        data: The data that the model was trained on.
        evaluation: Result of the evaluation; None if no recording was held out.
        split: The split that was evaluated.
        facts: How the model was trained.
        repo_id: Repository from which the card's code loads; the name of the folder if None.
    """
    if evaluation is not None:
        result = {"split": split} | evaluation.as_data()
        with whole_file(folder / METRICS) as partial:
            partial.write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        with whole_file(folder / FIGURE) as partial:
            evaluation.figure().savefig(partial, dpi=100, format="png")
    card = render_card(
        model, feature_extractor, data, evaluation, split, facts, repo_id=repo_id or folder.resolve().name
    )
    with whole_file(folder / CARD) as partial:
        partial.write_text(f"{card}\n", encoding="utf-8")


def render_card(
    model: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    evaluation: Evaluation | EventEvaluation | None,
    split: str | None,
    facts: TrainingFacts,
    *,
    repo_id: str,
) -> ModelCard:
    """Return the model card, from facts of the data and the measured result; arguments as in `write_results`."""
    name = repo_id.rpartition("/")[2]
    results: dict[str, Any] = {}
    if evaluation is not None:
        results = {
            "model_name": name,
            "eval_results": [
                EvalResult(
                    task_type="audio-classification",
                    dataset_type="audio",
                    dataset_name=Path(data.source.location).name,
                    dataset_split=split,
                    metric_type=metric,
                    metric_value=round(value, 6),
                )
                for metric, value in evaluation.as_data()["metrics"].items()
                if value is not None
            ],
        }
    # A name of the registry or a folder is not a Hub id
    is_hub_id = facts.source.count("/") == 1 and not Path(facts.source).exists()
    return ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            pipeline_tag="audio-classification",
            tags=["audio-spectrogram-transformer", model.config.model_type, "audio", "hf-ast"],
            license=facts.license or "unknown",
            base_model=facts.source if is_hub_id else None,
            **results,
        ),
        template_path=str(TEMPLATE),
        title=markdown(name),
        repo_id=code(repo_id),
        data=data,
        data_name=code(Path(data.source.location).name),
        total_s=sum(clip.duration_s for clip in data.clips),
        splits=[name for name in SPLITS if data.of(name)],
        has_groups=any(clip.group is not None for clip in data.clips),
        classes=list(_class_rows(data, evaluation))[:MAX_CLASSES],
        evaluation=evaluation,
        of_events=isinstance(data, StronglyLabelledData),
        split=split,
        is_test=split == TEST,
        remarks=[markdown(one) for one in (facts if evaluation is None else evaluation).remarks],
        facts=facts,
        source_name=code(Path(facts.source).name if Path(facts.source).exists() else facts.source),
        class_name=type(model).__name__,
        num_parameters=model.num_parameters(),
        extractor=feature_extractor,
        extractor_name=type(feature_extractor).__name__,
        version=hf_ast.__version__,
        figure=FIGURE,
        metrics_file=METRICS,
    )


def _class_rows(data: LabelledData, evaluation: Evaluation | EventEvaluation | None) -> Iterator[dict[str, Any]]:
    """Return the name, counts and average precision or F1 of each class, for a table in Markdown."""
    classes = None if evaluation is None else evaluation.as_data()["classes"]
    for index, (label, counts) in enumerate(data.counts().items()):
        score = None if classes is None else classes[index].get("average_precision", classes[index].get("event_F1"))
        threshold = None if classes is None else classes[index].get("threshold")
        yield {"label": markdown(label), "counts": list(counts.values()), "score": score, "threshold": threshold}
