"""Models as graphs of torch.export: from waveforms or spectrograms to logits, at any batch size and length."""

import copy
from typing import Any, NamedTuple, cast

import torch
import torch.fx.experimental._config as shape_config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from transformers import PreTrainedModel

from hf_ast.choices import ExportInput, expect_one_of
from hf_ast.inference.features import FeatureExtractor
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor
from hf_ast.models.modeling_common import (
    SpectrogramForAudioClassification,
    SpectrogramForAudioFrameClassification,
)

# What a file takes, and the name of that input
SOURCES = {"waveform": "waveform", "features": "input_values"}
# Batch size of the example that is traced; torch.export would treat 1 as a constant
EXAMPLE_BATCH_SIZE = 2
LabelModel = SpectrogramForAudioClassification | SpectrogramForAudioFrameClassification


class InputLimits(NamedTuple):
    """Lengths of the shortest and of the longest input, in samples or in frames."""

    shortest: int
    longest: int


def export_program(
    model: PreTrainedModel, feature_extractor: FeatureExtractor, *, source: ExportInput = "waveform"
) -> ExportedProgram:
    """Export a model that labels clips, or cells of time, as one graph for any number of clips of any length.

    Args:
        model: One of ours; it is exported in float32, in eval mode, and stays as it is.
        feature_extractor: Its feature extractor.
        source: "waveform" for an input `waveform` (B, S) in [-1, 1] at the sampling rate of the model, or "features"
            for `input_values` (B, T, M), normalised log-mel spectrograms. The clips of a batch have the same length.

    Returns:
        The program, which returns raw logits, (B, C) or (B, K, C), for inputs of the lengths in `input_limits`.

    Raises:
        ValueError: The model is of another family, or cannot take what its feature extractor returns.
    """
    classifier = as_module(model, feature_extractor, source=source)
    limits = input_limits(model, feature_extractor, source=source)
    length = (limits.shortest + 2 * limits.longest) // 3
    example = torch.zeros(EXAMPLE_BATCH_SIZE, length, *classifier.inner_shape)
    # A single length is no range, which `Dim` needs
    length_dim = Dim("length", min=limits.shortest, max=limits.longest) if limits.shortest < limits.longest else None
    sizes = ({0: Dim("batch"), 1: length_dim},)
    # Without this, torch.export refuses lengths that may give a single frame or a single column of patches
    with torch.no_grad(), cast("Any", shape_config).patch(backed_size_oblivious=True):
        return torch.export.export(classifier, (example,), dynamic_shapes=sizes)


def as_module(model: PreTrainedModel, feature_extractor: FeatureExtractor, *, source: ExportInput) -> "Classifier":
    """Return the module that `export_program` exports."""
    classes: dict[str, type[Classifier]] = {"waveform": WaveformClassifier, "features": FeatureClassifier}
    expect_one_of(ExportInput, source=source)
    return classes[source](*_checked(model, feature_extractor))


class Classifier(nn.Module):
    """A model from one input tensor to its logits, of clips or of cells, for export."""

    # Shape of the input after batch and length
    inner_shape: tuple[int, ...] = ()

    def __init__(self, model: LabelModel, feature_extractor: SpectrogramFeatureExtractor):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval()
        self.model.set_attn_implementation("sdpa")  # the only fused attention that all runtimes can run


class FeatureClassifier(Classifier):
    """Spectrograms to logits."""

    def __init__(self, model: LabelModel, feature_extractor: SpectrogramFeatureExtractor):
        super().__init__(model, feature_extractor)
        self.inner_shape = (model.config.num_mel_bins,)

    def forward(self, input_values: Tensor) -> Tensor:
        """Normalised log-mel spectrograms (B, T, M) -> logits (B, C), or (B, K, C) of cells."""
        return self.model(input_values).logits


class WaveformClassifier(Classifier):
    """Waveforms to logits: the feature extractor, as called on clips of equal length, and the model."""

    def __init__(self, model: LabelModel, feature_extractor: SpectrogramFeatureExtractor):
        super().__init__(model, feature_extractor)
        feature_extractor._check_settings()
        self.feature_extractor = feature_extractor
        self.front_end = feature_extractor.front_end_class(**feature_extractor._front_end_settings())
        if feature_extractor.completes_waveform and feature_extractor.return_attention_mask:
            raise ValueError(
                "return_attention_mask=True does not go with source='waveform' here: the feature extractor completes "
                "clips with silence, which a mask would leave out again; set it to False, or use source='features'."
            )

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveforms (B, S) in [-1, 1] -> logits (B, C), or (B, K, C) of cells."""
        extractor = self.feature_extractor
        waveform = extractor._prepared(waveform)
        # Not `pad`, which would cut a clip that is too long without an error
        if pads_to_max_length(extractor) and extractor.completes_waveform:
            num_clips, num_samples = waveform.shape
            silence = waveform.new_zeros((num_clips, extractor.max_samples - num_samples))
            waveform = torch.cat((waveform, silence), dim=1)
        features = self.front_end(waveform)
        if extractor.do_normalize:
            features = (features - extractor.mean) / (2 * extractor.std)
        if pads_to_max_length(extractor) and not extractor.completes_waveform:
            num_clips, num_frames, num_mel_bins = features.shape
            padding = features.new_full(
                (num_clips, extractor.max_length - num_frames, num_mel_bins), extractor.padding_value
            )
            features = torch.cat((features, padding), dim=1)
        return self.model(features).logits


def pads_to_max_length(feature_extractor: SpectrogramFeatureExtractor) -> bool:
    """Whether the model attends to padding: the extractor pads to `max_length`, and gives no mask."""
    return feature_extractor.default_padding == "max_length" and not feature_extractor.return_attention_mask


def input_limits(model: PreTrainedModel, feature_extractor: FeatureExtractor, *, source: ExportInput) -> InputLimits:
    """Return the lengths that an exported model takes, in samples for "waveform" and in frames for "features".

    The longest input fills the position table of the model, and for waveforms at most the `max_length` of the
    extractor, beyond which it would cut. The shortest one fills a patch or, where the extractor pads to its
    `max_length`, what its filter bank needs (`min_samples`): zeros behind a shorter one give what the extractor gives.

    Raises:
        ValueError: The model is of another family, or cannot take the length to which its feature extractor pads.
    """
    classifier, extractor = _checked(model, feature_extractor)
    embeddings = classifier.backbone.embeddings
    patch_frames, max_frames = embeddings.min_frames, embeddings.max_frames
    if source == "features":
        return InputLimits(patch_frames, max_frames)
    if not pads_to_max_length(extractor):
        longest = extractor.num_samples(min(extractor.max_length, max_frames))
        shortest = extractor.num_samples(patch_frames)
        while shortest > extractor.min_samples and extractor.num_frames(shortest - 1) >= patch_frames:
            shortest -= 1
        return InputLimits(max(shortest, extractor.min_samples), longest)
    if not patch_frames <= extractor.max_length <= max_frames:
        raise ValueError(
            f"feature_extractor pads to max_length={extractor.max_length} frames, but the model takes {patch_frames} "
            f"to {max_frames}; load both with the same max_length."
        )
    return InputLimits(extractor.min_samples, extractor.max_samples)


def _checked(model: Any, feature_extractor: Any) -> tuple[LabelModel, SpectrogramFeatureExtractor]:
    """Return both if they belong to one of our families."""
    if not isinstance(model, LabelModel):
        raise ValueError(
            f"model is a {type(model).__name__}; only models of AST, SSAST, PaSST and fPaSST that label clips or "
            "frames are exported."
        )
    if not isinstance(feature_extractor, SpectrogramFeatureExtractor):
        raise ValueError(
            f"feature_extractor is a {type(feature_extractor).__name__}; pass that of the model, an "
            "HfASTFeatureExtractor, for example."
        )
    if feature_extractor.num_mel_bins != model.config.num_mel_bins:
        raise ValueError(
            f"feature_extractor has num_mel_bins={feature_extractor.num_mel_bins}, but the model has "
            f"{model.config.num_mel_bins}; pass that of the model."
        )
    return model, feature_extractor
