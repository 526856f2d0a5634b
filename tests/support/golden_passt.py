"""Golden cases of PaSST: its checkpoints, patchout, DeiT initialisation, front end, and the HEAR wrapper."""

from pathlib import Path
from typing import Any

import torch

from hf_ast import (
    PaSSTConfig,
    PaSSTFeatureExtractor,
    PaSSTForAudioClassification,
    PaSSTMel,
    scene_embeddings,
    timestamp_embeddings,
)
from hf_ast.conversion import convert_checkpoint
from hf_ast.inference.embeddings import HEAR_VARIANTS
from hf_ast.models.modules_mel_filters import kaldi_mel_filters
from hf_ast.models.modules_passt_mel import MelDraws, passt_log_mel
from hf_ast.models.modules_patchout import Patchout
from tests.support.golden_common import Result, check, classifier_fields, encode, layout_config, state_dict, to_numpy

MODES = {"embed_only": "features", "logits": "logits", "all": "all"}
PATCHOUT = {
    "s_patchout_t": "time_patchout",
    "s_patchout_f": "frequency_patchout",
    "u_patchout": "unstructured_patchout",
}


def passt_config(facts: dict[str, Any], **changes: Any) -> PaSSTConfig:
    """Our config of an official PaSST checkpoint."""
    return PaSSTConfig(**classifier_fields(facts) | changes)


def load_new_head(model: PaSSTForAudioClassification, entry: dict[str, Any]) -> None:
    """What the official code would leave random: not always the norm of the head too. The second head is unused."""
    names = {"head.0": "norm", "head.1": "linear"}
    head = model.classifier.state_dict()
    for key, value in check.build_new_head(entry).items():
        module, kind = key.rsplit(".", 1)
        if module in names:
            head[f"{names[module]}.{kind}"] = torch.as_tensor(value)
    model.classifier.load_state_dict(head)


def classify(model: PaSSTForAudioClassification, entry: dict[str, Any], inputs: dict[str, Any]) -> Result:
    """Everything that the cases record of a forward pass; their inputs are (B, 1, mel bins, frames)."""
    wants_attention = any("attention" in name for name in entry["arrays"])
    model.set_attn_implementation("eager" if wants_attention else "sdpa")
    input_values = torch.as_tensor(inputs["input_values"]).squeeze(1).transpose(1, 2)
    _, tensors = encode(model, input_values, output_attentions=wants_attention)
    embeddings = model.backbone.embeddings
    tensors |= {
        "new_pos_embed": embeddings.prefix_positions,
        "freq_new_pos_embed": embeddings.positions.frequency_table.permute(0, 3, 1, 2),
        "time_new_pos_embed": embeddings.positions.time_table.permute(0, 3, 1, 2),
        "patch_embed.proj.weight": tensors["patch_weight"],
    }
    return to_numpy(tensors)


def run_passt(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """Also the user's way to other labels (convert, save, load), and the official cut of too long inputs."""
    facts = entry["config"]
    num_labels = layout_config(entry)["num_labels"]
    overflow = "error" if "hear21" in entry["official"] else "crop"  # too long clips: an error, or cut
    config = passt_config(layout_config(entry), position_overflow=overflow)
    model = convert_checkpoint(state_dict(entry), config)
    if facts["num_labels"] != num_labels:
        model.save_pretrained(tmp_path)
        model = PaSSTForAudioClassification.from_pretrained(
            tmp_path, num_labels=facts["num_labels"], ignore_mismatched_sizes=True
        )
        load_new_head(model, entry)
    return classify(model, entry, inputs)


def run_passt_patchout(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """Training mode with the recorded draws."""
    facts, drawn = entry["config"], check.load_expected(entry)
    numbers = {ours: facts.get(official, 0) for official, ours in PATCHOUT.items()}
    config = passt_config(layout_config(entry), position_crop="random", **numbers)
    model = convert_checkpoint(state_dict(entry), config).train()
    draws = iter([torch.as_tensor(drawn[f"randperm_{name}"]).long() for name in PATCHOUT if facts.get(name)])

    def recorded(size: int) -> torch.Tensor:
        permutation = next(draws)
        assert len(permutation) == size
        return permutation[None]

    model.backbone.embeddings.patchout = Patchout(**numbers, permute=recorded)
    if "time_offset" in drawn:
        model.backbone.embeddings.random_start = lambda num_starts, generator: torch.as_tensor(drawn["time_offset"])
    return classify(model, entry, inputs)


def run_passt_deit_init(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    config = passt_config(entry["config"])
    model = convert_checkpoint({"model": state_dict(entry)}, config, model_class=PaSSTForAudioClassification)
    load_new_head(model, entry)
    return classify(model, entry, inputs)


def run_frontend_passt(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """In eval mode the feature extractor, in training mode `PaSSTMel` with the recorded draws."""
    facts = entry["config"]
    if entry["case"].startswith("mel_banks"):
        filters = kaldi_mel_filters(
            facts["num_bins"],
            facts["n_fft"],
            facts["sr"],
            low_frequency_hz=facts["fmin"],
            high_frequency_hz=facts["fmax"],
        )
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
    if "official_raises" in facts:  # the extractor continues such a clip with zeros
        return {"mel": passt_log_mel(waveform.reshape(1, -1), **settings).mT.numpy()}
    if facts["mode"] == "eval":
        extractor, rate = PaSSTFeatureExtractor(**settings), facts["sampling_rate"]
        features = extractor(waveform, rate, return_tensors="pt", padding=False)["input_values"]
        return {"mel": features.mT.numpy()}
    drawn = check.load_expected(entry)
    front_end = PaSSTMel(
        low_frequency_jitter_hz=facts["fmin_aug_range"],
        high_frequency_jitter_hz=facts["fmax_aug_range"],
        max_mel_mask=facts["freqm"],
        max_time_mask=facts["timem"],
        **settings,
    )
    low, high = (int(draw) for draw in drawn["fmin_fmax_draws"])
    none = torch.zeros(len(waveform))
    names = ("freq_width", "freq_start", "time_width", "time_start")
    masks = torch.stack([torch.as_tensor(drawn.get(f"mask_uniform_{name}", none)) for name in names], dim=1)
    draws = MelDraws(facts["fmin"] + low, facts["fmax_used_in_eval"] + facts["fmax_aug_range"] // 2 - high, masks)
    return {"mel": front_end(waveform, draws=draws).mT.numpy()}


def hear_variant(module: str) -> dict[str, Any]:
    """What a module of hear21passt concatenates; names are like base2level, hop100base2lvl, hop160base2lvlmel."""
    if module.endswith("mel"):
        return HEAR_VARIANTS["base2levelmel" if module == "base2levelmel" else "hop160base2lvlmel"]
    return HEAR_VARIANTS["base2level" if "2l" in module else "base"]


def run_hear(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    facts = entry["config"]
    model = convert_checkpoint(state_dict(entry), passt_config(layout_config(entry)))
    extractor = PaSSTFeatureExtractor(
        max_length=facts["max_model_window_samples"] // facts["mel_hopsize"],
        hop_length=facts["mel_hopsize"],
        high_frequency_hz=facts["fmax_used"],
    )
    waveform, mode = torch.as_tensor(inputs["audio"]), MODES[facts["mode"]]
    hop_s = facts["scene_hop_samples"] / facts["sample_rate"]
    result = {"scene_embeddings": scene_embeddings(model, extractor, waveform, mode=mode, hop_s=hop_s)}
    if "timestamps" in entry["arrays"]:
        variant = hear_variant(facts["module"].removeprefix("hear21passt."))
        embeddings, timestamps = timestamp_embeddings(model, extractor, waveform, mode=mode, **variant)
        result |= {"timestamp_embeddings": embeddings, "timestamps": timestamps}
    return to_numpy(result)


RUNNERS = {
    "passt": run_passt,
    "passt_patchout": run_passt_patchout,
    "passt_deit_init": run_passt_deit_init,
    "frontend_passt": run_frontend_passt,
    "hear": run_hear,
}
