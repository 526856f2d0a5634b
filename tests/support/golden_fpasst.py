"""Golden cases of fPaSST: its checkpoints, training mode, DeiT initialisation and front end."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_ast import FPaSSTConfig, FPaSSTFeatureExtractor, FPaSSTForAudioFrameClassification, FPaSSTMel, tag
from hf_ast.conversion import convert_checkpoint
from hf_ast.inference.events import MedianFilter, find_events
from hf_ast.models.modules_cells import resample_cells
from hf_ast.models.modules_centred_mel import MelDraws
from hf_ast.models.modules_mel_filters import kaldi_mel_filters
from hf_ast.models.modules_patchout import Patchout
from tests.support.golden_common import Result, check, encode, state_dict, to_numpy


def fpasst_config(facts: dict[str, Any], **changes: Any) -> FPaSSTConfig:
    """Our config of an official fPaSST checkpoint; the official code cuts longer inputs."""
    num_labels, num_clip_labels = facts["n_classes_strong"], facts["n_classes_weak"]
    return FPaSSTConfig(
        **{
            "hidden_size": facts["hidden_size"],
            "num_hidden_layers": facts["depth"],
            "num_attention_heads": facts["num_heads"],
            "intermediate_size": 4 * facts["hidden_size"],
            "max_length": 4 * facts["pos_embed_length"],
            "num_mel_bins": facts["num_mel_bins"],
            "num_cells": facts["seq_len"],
            "clip_head": facts["head_type"] or "none",
            "num_labels": num_labels,
            "clip_labels": None if num_labels == num_clip_labels else [str(i) for i in range(num_clip_labels)],
            "position_overflow": "crop",
        }
        | changes
    )


def classify(model: FPaSSTForAudioFrameClassification, inputs: dict[str, Any]) -> Result:
    """Everything that the cases record of a forward pass; their inputs are (B, 1, mel bins, frames)."""
    seen: dict[str, torch.Tensor] = {}
    embeddings = model.backbone.embeddings
    embeddings.patch_embedding.projection.register_forward_pre_hook(
        lambda module, args: seen.update(stem=args[0][..., :-1])  # without the column of zeros
    )
    model.frame_classifier.register_forward_pre_hook(lambda module, args: seen.update(sequence=args[0]))
    outputs, tensors = encode(model, torch.as_tensor(inputs["input_values"]).squeeze(1).transpose(1, 2))
    tensors |= seen | named(outputs.logits, outputs.clip_logits)
    tensors |= {
        "new_pos_embed": embeddings.prefix_positions,
        "freq_new_pos_embed": embeddings.positions.frequency_table.permute(0, 3, 1, 2),
        "time_new_pos_embed": embeddings.positions.time_table.permute(0, 3, 1, 2),
        "patch_embed.proj.weight": tensors["patch_weight"],
    }
    return to_numpy(tensors)


def named(logits: torch.Tensor, clip_logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs as the cases name them: classes before positions; probabilities with the attention head."""
    return {
        "strong_logits": logits.mT,
        "weak_logits": clip_logits,
        "strong_probs": logits.mT.sigmoid(),
        "weak_probs": clip_logits.sigmoid(),
    }


def run_fpasst(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    return classify(convert_checkpoint(state_dict(entry), fpasst_config(entry["config"])), inputs)


def run_fpasst_train(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """Training mode with the recorded draws. The official wrapper stretches what patchout leaves."""
    facts, drawn = entry["config"], check.load_expected(entry)
    config = fpasst_config(facts, position_crop="random")
    model = convert_checkpoint(state_dict(entry), config).train()
    embeddings = model.backbone.embeddings
    if "time_offset" in drawn:
        embeddings.random_start = lambda num_starts, generator: torch.as_tensor(drawn["time_offset"])
    if not facts["frame_patchout"]:
        return classify(model, inputs)
    permutation = torch.as_tensor(drawn["randperm_frame_patchout"]).long()[None]
    embeddings.patchout = Patchout(time_patchout=facts["frame_patchout"], permute=lambda size: permutation)
    model.config.num_cells = None  # refuses to stretch
    result = classify(model, inputs)
    with torch.no_grad():
        sequence = resample_cells(torch.as_tensor(result["last_hidden_state"])[:, 2:], facts["seq_len"])
        outputs = named(model.frame_classifier(sequence), model.classifier(sequence.mean(dim=1)))
    return result | to_numpy({"sequence": sequence} | outputs)


def run_fpasst_deit_init(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    config = fpasst_config(entry["config"])
    model = convert_checkpoint({"model": state_dict(entry)}, config, model_class=FPaSSTForAudioFrameClassification)
    names = {f"model.fpasst.conv_in_{i + 1}": f"backbone.embeddings.patch_embedding.stem.{i}" for i in range(3)}
    names |= {"strong_head": "frame_classifier.linear", "weak_head": "classifier.linear"}
    new = {}
    for key, value in check.build_new_head(entry).items():
        module, kind = key.rsplit(".", 1)
        new[f"{names[module]}.{kind}"] = torch.as_tensor(value)
    assert not model.load_state_dict(new, strict=False).unexpected_keys
    return classify(model, inputs)


def run_frontend_fpasst(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """In eval mode the feature extractor, in training mode `FPaSSTMel` with the recorded draws."""
    facts = entry["config"]
    if entry["case"].startswith("mel_banks"):
        filters = kaldi_mel_filters(
            facts["num_bins"], facts["n_fft"], facts["sr"],
            low_frequency_hz=facts["fmin"], high_frequency_hz=facts["fmax"],
        )  # fmt: skip
        return {"mel_filters": filters[:, :-1].numpy()}
    settings = {
        "sampling_rate": facts["sampling_rate"],
        "num_mel_bins": facts["n_mels"],
        "n_fft": facts["n_fft"],
        "window_length": facts["win_length"],
        "hop_length": facts["hopsize"],
        "low_frequency_hz": facts["fmin"],
        "high_frequency_hz": facts["fmax_used_in_eval"],
    }
    waveform = torch.as_tensor(inputs["waveform"])
    if facts["mode"] == "eval" and "official_raises" not in facts:
        extractor = FPaSSTFeatureExtractor(**settings)
        features = extractor(waveform, facts["sampling_rate"], return_tensors="pt", padding="longest")
        return {"mel": features["input_values"].mT.unsqueeze(1).numpy()}
    front_end = FPaSSTMel(
        low_frequency_jitter_hz=facts["fmin_aug_range"],
        high_frequency_jitter_hz=facts["fmax_aug_range"],
        max_mel_mask=facts["freqm"],
        max_time_mask=facts["timem"],
        **settings,
    )
    if "official_raises" in facts:
        return {"mel": front_end.eval()(waveform).numpy()}
    low, high = (int(draw) for draw in check.load_expected(entry)["fmin_fmax_draws"])
    draws = MelDraws(
        facts["fmin"] + low,
        facts["fmax_used_in_eval"] + facts["fmax_aug_range"] // 2 - high,
        torch.zeros(len(waveform), 4),
    )
    return {"mel": front_end(waveform, draws=draws).mT.unsqueeze(1).numpy()}


def run_fpasst_end_to_end(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """One clip, as `model(model.mel_forward(waveform))`; or a file in chunks of 10 s, and its events."""
    facts = entry["config"]
    model = convert_checkpoint(state_dict(entry), fpasst_config(facts))
    extractor = FPaSSTFeatureExtractor(max_length=model.config.max_length)
    waveform = torch.as_tensor(inputs["waveform"])
    if "segment_samples" not in facts:
        features = extractor(waveform, facts["sampling_rate"], return_tensors="pt", padding="longest")["input_values"]
        values = features.mT.unsqueeze(1).numpy()
        return classify(model, {"input_values": values}) | {"mel": values}
    # The official code completes the last chunk, where `tag` would let it begin earlier
    missing = -waveform.numel() % facts["segment_samples"]
    tagging = tag(model, extractor, torch.nn.functional.pad(waveform.flatten(), (0, missing)).numpy())
    probabilities = tagging.cell_scores.T
    return {"strong_probs": probabilities[None].numpy()} | decoded(probabilities, facts | {"frame_seconds": 0.04})


def run_sed_decode(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    return decoded(torch.as_tensor(inputs["strong_probs"]), entry["config"])


def decoded(probabilities: torch.Tensor, facts: dict[str, Any]) -> Result:
    """Events of probabilities (C, K) for each threshold, class by class.

    The official code keeps events in the padding of a file as empty ones.
    """
    num_classes, num_cells = probabilities.shape
    scores, length = probabilities.T.numpy(), facts["median_filter"]
    filtered = MedianFilter(length).whole(scores)
    clipped = np.minimum(facts["frame_seconds"] * np.arange(num_cells + 1), facts["audio_len"])
    result = {"scores_filtered": filtered.T, "frame_onset": clipped[:-1], "frame_offset": clipped[1:]}
    labels = [f"{index:04}" for index in range(num_classes)]
    settings = {"median_s": length * facts["frame_seconds"]}
    for index, threshold in enumerate(facts["thresholds"]):
        events = sorted(find_events(scores, facts["frame_seconds"], labels, threshold=threshold, **settings))
        result[f"event_class_{index}"] = np.array([int(event.label) for event in events])
        for name, times in (("onset", [e.start_s for e in events]), ("offset", [e.end_s for e in events])):
            result[f"event_{name}_{index}"] = np.minimum(times, facts["audio_len"])
    return result


RUNNERS = {
    "fpasst": run_fpasst,
    "fpasst_train": run_fpasst_train,
    "fpasst_deit_init": run_fpasst_deit_init,
    "frontend_fpasst": run_frontend_fpasst,
    "fpasst_end_to_end": run_fpasst_end_to_end,
    "sed_decode": run_sed_decode,
}
