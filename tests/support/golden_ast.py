"""Golden cases of AST: its checkpoints and initialisations, fine-tuning with another geometry, and its front ends."""

from pathlib import Path
from typing import Any

import torch

from hf_ast import HfASTConfig, HfASTFeatureExtractor, HfASTForAudioClassification
from hf_ast.conversion import convert_checkpoint
from hf_ast.models.modules_fbank import kaldi_fbank
from hf_ast.models.modules_mel_filters import kaldi_mel_filters
from hf_ast.training.augmentation import mixup_waveforms, spec_augment
from tests.support.golden_common import (
    Result,
    check,
    classifier_fields,
    encode,
    layout_config,
    load_new_head,
    state_dict,
    to_numpy,
)


def ast_config(facts: dict[str, Any], **changes: Any) -> HfASTConfig:
    """Our config of an official AST checkpoint."""
    return HfASTConfig(**classifier_fields(facts) | changes)


def classify(model: HfASTForAudioClassification, entry: dict[str, Any], inputs: dict[str, Any]) -> Result:
    """Everything that the cases record of a forward pass."""
    wants_attention = any("attention" in name for name in entry["arrays"])
    model.set_attn_implementation("eager" if wants_attention else "sdpa")
    _, tensors = encode(model, inputs["input_values"], output_attentions=wants_attention)
    return to_numpy(tensors)


def run_ast(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    model = convert_checkpoint(state_dict(entry), ast_config(layout_config(entry)))
    return classify(model, entry, inputs)


def run_ast_finetune(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """The user's way: convert, save, then load for other labels, lengths, strides or mel bins."""
    convert_checkpoint(state_dict(entry), ast_config(layout_config(entry))).save_pretrained(tmp_path)
    facts = entry["config"]
    model = HfASTForAudioClassification.from_pretrained(
        tmp_path,
        max_length=facts["input_tdim"],
        num_mel_bins=facts["input_fdim"],
        frequency_stride=facts["fstride"],
        time_stride=facts["tstride"],
        num_labels=facts["num_labels"],
        ignore_mismatched_sizes=True,
    )
    load_new_head(model, entry)
    return classify(model, entry, inputs)


def run_ast_deit_init(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    config = ast_config(entry["config"])
    model = convert_checkpoint({"model": state_dict(entry)}, config, model_class=HfASTForAudioClassification)
    load_new_head(model, entry)
    return classify(model, entry, inputs)


def extractor(facts: dict[str, Any], **changes: Any) -> HfASTFeatureExtractor:
    values = {
        "sampling_rate": facts["sampling_rate"],
        "num_mel_bins": facts.get("num_mel_bins", 128),
        "max_length": facts["target_length"],
        "mean": facts["mean"],
        "std": facts["std"],
    }
    return HfASTFeatureExtractor(**values | changes)


def run_frontend_ast(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    facts = entry["config"]
    if entry["case"].startswith("mel_banks"):
        filters = kaldi_mel_filters(
            facts["num_bins"],
            facts["n_fft"],
            int(facts["sr"]),
            low_frequency_hz=facts["fmin"],
            high_frequency_hz=facts["fmax"],
        )
        return {"mel_filters": filters[:, :-1].numpy()}
    waveform = torch.as_tensor(inputs["waveform"])
    if waveform.ndim == 2:  # the official data loader centres over all channels and hears the first one
        waveform = (waveform - waveform.mean())[0]
    if "mix_lambda" in facts:
        waveform = mixup_waveforms(waveform, torch.as_tensor(inputs["waveform2"]), facts["mix_lambda"])
    if "official_raises" in facts:  # the extractor continues such a clip with zeros
        return {"input_values": kaldi_fbank(waveform.reshape(1, -1))[0].numpy()}
    front_end = extractor(facts)
    features = front_end(waveform, sampling_rate=facts["sampling_rate"], return_tensors="pt")["input_values"]
    if facts["freqm"] or facts["timem"]:
        draws = torch.as_tensor(check.load_expected(entry)["specaug_uniform"])
        features = spec_augment(
            features,
            max_mel_bins=facts["freqm"],
            max_frames=facts["timem"],
            mask_value=front_end.padding_value,
            draws=draws[None],
        )
    return {"input_values": features[0].numpy()}


def run_frontend_superb(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    facts = entry["config"]
    front_end = extractor(facts, subtract_mean=facts["waveform_mean_subtracted"], padding_value=0.0)
    features = front_end(inputs["waveform"], sampling_rate=facts["sampling_rate"], return_tensors="np")
    return {"input_values": features["input_values"][0]}


def run_ast_end_to_end(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    facts = entry["config"]
    model = convert_checkpoint(state_dict(entry), ast_config(layout_config(entry)))
    features = extractor(facts)(inputs["waveform"], sampling_rate=facts["sampling_rate"], return_tensors="pt")
    result = classify(model, entry, features)
    return result | {"input_values": features["input_values"].numpy()}


RUNNERS = {
    "ast": run_ast,
    "ast_finetune": run_ast_finetune,
    "ast_deit_init": run_ast_deit_init,
    "ast_end_to_end": run_ast_end_to_end,
    "frontend_ast": run_frontend_ast,
    "frontend_superb": run_frontend_superb,
}
