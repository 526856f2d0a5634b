"""A checkpoint made ready for other data: its head, the length of its input, and its statistics."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    PreTrainedModel,
)
from transformers.utils import logging

from hf_ast import (
    HfASTConfig,
    HfASTFeatureExtractor,
    HfASTForAudioClassification,
    HfASTForAudioFrameClassification,
    PaSSTConfig,
)
from hf_ast.checkpoints import resolve_model
from hf_ast.choices import Freeze, expect_one_of
from hf_ast.data.labelled import Clip, LabelledData
from hf_ast.data.splitting import TRAIN
from hf_ast.data.strong_labels import StronglyLabelledData
from hf_ast.families import MODEL_TYPES
from hf_ast.inference.front_ends import load_feature_extractor, read_model_type
from hf_ast.inference.loading import expect_complete
from hf_ast.models.configuration_common import as_pair
from hf_ast.models.configuration_native_common import NATIVE_MODEL_TYPE
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modules_transformer import initialize_weights
from hf_ast.opening import hub_settings, open_safely

from .clips import Clips
from .presets import Preset
from .statistics import feature_statistics

# Where the mean and standard deviation of the input come from
# Number of recordings from which the statistics of the data are computed
NUM_STATISTICS = 1000
# Beginnings of the names of heads, which may be new
NEW_HEADS = ("classifier.", "frame_classifier.")
# What is not trained -> names of its modules
FROZEN = {"nothing": (), "embeddings": ("backbone.embeddings",), "backbone": ("backbone",)}
# Shares of the rows and columns of the grid that PaSST drops on AudioSet: 4 of 12 and 40 of 99
OFFICIAL_PATCHOUT = (4 / 12, 40 / 99)


def load_for_training(
    model: str | Path,
    data: LabelledData,
    preset: Preset,
    *,
    duration_s: float | None = None,
    keeps_length: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[PreTrainedModel, SpectrogramFeatureExtractor, LabelledData]:
    """Load a model with a head for the classes of the data, for inputs as long as its recordings.

    Args:
        model, preset, duration_s, revision, token: As in `hf_ast.training.finetune.finetune`.
        data: The recordings.
        keeps_length: Whether the input stays as long as that of the checkpoint instead.

    Returns:
        The model, its feature extractor, and the data, with the classes in the order of the model's head.

    Raises:
        ValueError: The model is no AST, SSAST or PaSST, more of its checkpoint than the classifier is missing or of
            another size, or `duration_s` is shorter than a patch.
    """
    path = resolve_model(model, revision=revision, token=token)
    of_hub = hub_settings(revision, token)
    model_type = read_model_type(path, **of_hub)
    is_native = model_type == NATIVE_MODEL_TYPE
    if not is_native and model_type not in MODEL_TYPES:
        raise ValueError(f"model={str(model)!r} is a {model_type}, but must be an AST, SSAST or PaSST.")
    config: Any = open_safely(HfASTConfig if is_native else AutoConfig, path, **of_hub)
    feature_extractor: Any = load_feature_extractor(path, model_type, **of_hub)
    feature_extractor.min_length = as_pair(config.patch_size)[1]
    if not keeps_length:
        feature_extractor.max_length = _max_length(feature_extractor, data, preset, duration_s)
    old_labels = [config.id2label[index] for index in range(len(config.id2label))]
    has_these_classes = set(old_labels) == set(data.labels)
    if has_these_classes:
        data = data.with_labels(old_labels)
    model_class, of_frames = _task(config, data, feature_extractor, is_native=is_native)
    with without_load_report():
        network, info = open_safely(
            model_class,
            path,
            dtype=torch.float32,  # whatever the checkpoint's: small steps vanish in half precision
            id2label=dict(enumerate(data.labels)),
            label2id={label: index for index, label in enumerate(data.labels)},
            problem_type=data.problem_type,
            max_length=max(feature_extractor.max_length, config.max_length if preset.position_crop else 0),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **of_frames,
            **of_hub,
            **_patchout(config, preset, feature_extractor.max_length),
            **({} if preset.position_crop is None else {"position_crop": preset.position_crop}),
        )
    expect_complete(model, info, optional=NEW_HEADS)
    if not has_these_classes and len(old_labels) == len(data.labels):
        # The old head has the right size, but is for other classes
        with torch.no_grad():
            for name, module in network.named_modules():
                if f"{name}.".startswith(NEW_HEADS):
                    initialize_weights(module, network.config.initializer_range)
    return network, feature_extractor, data


def _task(
    config: Any, data: LabelledData, feature_extractor: SpectrogramFeatureExtractor, *, is_native: bool
) -> tuple[Any, dict[str, Any]]:
    """Return the class of model for the data, and the settings that only models of frames have.

    A head for clips stays as it is if it is for the same classes. A new one pools the cells where there are labels
    without times, so that these train the cells, too; otherwise it is linear.
    """
    if not isinstance(data, StronglyLabelledData):
        return HfASTForAudioClassification if is_native else AutoModelForAudioClassification, {}
    model_class = HfASTForAudioFrameClassification if is_native else AutoModelForAudioFrameClassification
    labels_frames = any("ForAudioFrameClassification" in name for name in config.architectures or ())
    has_these_classes = labels_frames and set(config.id2label.values()) == set(data.labels)
    clip_head = "attention" if data.weak else "linear"
    if has_these_classes and config.clip_labels is None and config.clip_head != "none":
        clip_head = config.clip_head
    # Folders from before this field do not tell the hop, without which the times of cells would be wrong
    frame_shift_s = feature_extractor.frame_shift / feature_extractor.sampling_rate
    settings = {"clip_head": clip_head, "clip_labels": None, "event_thresholds": None, "frame_shift_s": frame_shift_s}
    return model_class, settings


@contextmanager
def without_load_report() -> Iterator[None]:
    """Silence what transformers says of tensors that do not fit: `expect_complete` refuses all but those of a head."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _patchout(config: Any, preset: Preset, max_length: int) -> dict[str, int]:
    """Return the settings of patchout for inputs of this length: those of the preset, else those of the checkpoint."""
    _, columns = config.grid
    new_rows, new_columns = type(config)(**config.to_dict() | {"max_length": max_length}).grid
    of_preset = {"time_patchout": (preset.time_patchout, new_columns)}
    of_preset |= {"frequency_patchout": (preset.frequency_patchout, new_rows)}
    of_preset |= {"unstructured_patchout": (preset.unstructured_patchout, new_rows * new_columns)}
    if any(share is not None for share, _ in of_preset.values()):
        return {name: round((share or 0.0) * number) for name, (share, number) in of_preset.items()}
    if config.time_patchout or config.frequency_patchout or config.unstructured_patchout:
        shorter = new_columns / columns
        return {name: int(getattr(config, name) * shorter) for name in ("time_patchout", "unstructured_patchout")}
    if config.model_type != PaSSTConfig.model_type:
        return {}
    shares = OFFICIAL_PATCHOUT
    return {"time_patchout": int(shares[1] * new_columns), "frequency_patchout": int(shares[0] * new_rows)}


def with_trained_part(network: PreTrainedModel, *, freeze: Freeze = "nothing", lora: int | None = None) -> Any:
    """Return a model of which only a part is trained; see `hf_ast.training.finetune.finetune`.

    Raises:
        ValueError: `freeze` is unknown, or given together with `lora`.
        ImportError: peft is missing.
    """
    expect_one_of(Freeze, freeze=freeze)
    for name in FROZEN[freeze]:
        network.get_submodule(name).requires_grad_(False)
    if lora is None:
        return network
    if freeze != "nothing":
        raise ValueError(f"freeze={freeze!r} and lora={lora} exclude each other: LoRA freezes all but the head.")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError('LoRA needs peft: pip install "hf-ast[train]"') from error
    heads = [name.removesuffix(".") for name in NEW_HEADS if hasattr(network, name.removesuffix("."))]
    config = LoraConfig(r=lora, target_modules=["qkv", "proj", "fc1", "fc2"], modules_to_save=heads)
    return get_peft_model(network, config)


def with_statistics(
    feature_extractor: SpectrogramFeatureExtractor, data: LabelledData, *, seed: int = 0, progress: bool = False
) -> SpectrogramFeatureExtractor:
    """Return a feature extractor with the mean and standard deviation of the training recordings.

    They are computed from at most a thousand of them, which are drawn with the seed.
    """
    mean, std = data_statistics(feature_extractor, data, data.of(TRAIN), seed=seed, progress=progress)
    normalizing: Any = type(feature_extractor).from_dict(feature_extractor.to_dict() | {"mean": mean, "std": std})
    return normalizing


def data_statistics(
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    clips: Sequence[Clip],
    *,
    num_recordings: int = NUM_STATISTICS,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> tuple[float, float]:
    """Compute the mean and standard deviation of log-mel values of recordings; see `feature_statistics`."""
    rate = feature_extractor.sampling_rate
    rows = Clips(data, clips, sampling_rate=rate, duration_s=feature_extractor.max_samples / rate)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:num_recordings]
    bar = tqdm(chosen.tolist(), desc="Statistics", unit="file", disable=not progress)
    return feature_statistics(feature_extractor, (rows[index]["waveform"] for index in bar), device=device)


def default_stats(preset: Preset, feature_extractor: SpectrogramFeatureExtractor) -> str:
    """Return what the preset says for the filter bank of AST and SSAST, and "checkpoint" for any other front end."""
    return preset.stats if isinstance(feature_extractor, HfASTFeatureExtractor) else "checkpoint"


def _max_length(
    feature_extractor: SpectrogramFeatureExtractor, data: LabelledData, preset: Preset, duration_s: float | None
) -> int:
    """Return the number of frames of the model's input."""
    rate = feature_extractor.sampling_rate
    if duration_s is not None:
        return _frames_for(feature_extractor, round(duration_s * rate))
    if preset.max_length is not None and isinstance(feature_extractor, HfASTFeatureExtractor):
        return preset.max_length
    longest_s = max(clip.duration_s for clip in data.clips)
    num_frames = max(feature_extractor.min_length, _frames_for(feature_extractor, math.ceil(longest_s * rate)))
    return min(num_frames, feature_extractor.max_length)


def _frames_for(feature_extractor: SpectrogramFeatureExtractor, num_samples: int) -> int:
    """Return the smallest number of frames with which no sample of the clips is cut off."""
    num_frames = feature_extractor.num_frames(num_samples)
    return num_frames + (feature_extractor.num_samples(num_frames) < num_samples)
