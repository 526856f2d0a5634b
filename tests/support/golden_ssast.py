"""Golden cases of SSAST: pretraining, fine-tuning with another geometry, and the SUPERB use of all layers."""

from pathlib import Path
from typing import Any

import torch

from hf_ast import SSASTConfig, SSASTForAudioClassification, SSASTForPreTraining, SSASTModel
from hf_ast.conversion import convert_checkpoint
from hf_ast.models.modules_objectives import best_targets, pair_log_probabilities
from tests.support.golden_common import Result, encode, layout_config, load_new_head, size_fields, state_dict, to_numpy


def ssast_config(facts: dict[str, Any], **changes: Any) -> SSASTConfig:
    """Our config of an official pretraining checkpoint."""
    values = size_fields(facts) | {
        "max_length": facts["p_input_tdim"],
        "num_mel_bins": facts["p_input_fdim"],
    }
    return SSASTConfig(**values | changes)


def run_ssast_pretrain(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    model = convert_checkpoint(state_dict(entry), ssast_config(layout_config(entry)))
    assert isinstance(model, SSASTForPreTraining)
    mask_indices = torch.as_tensor(inputs["mask_index"]).long()
    outputs, tensors = encode(model, inputs["input_values"], mask_indices=mask_indices)
    torch.testing.assert_close(outputs.loss, outputs.classification_loss + 10 * outputs.reconstruction_loss)
    predictions, targets, is_hidden = outputs.classification_predictions, outputs.targets, mask_indices >= 0
    log_probabilities = pair_log_probabilities(predictions, targets, is_hidden)
    tensors |= {
        "mpc_accuracy": outputs.accuracy,
        "mpc_nce_loss": outputs.classification_loss,
        "mpg_mse_loss": outputs.reconstruction_loss,
        "mpc_argmax": best_targets(log_probabilities, is_hidden),
        "mpc_total": targets @ predictions.transpose(1, 2),
        "mpc_pred": predictions,
        "mpg_pred": outputs.reconstructions,
        "target": targets,
    }
    return to_numpy(tensors)


def run_ssast_finetune(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    """The user's way: convert, save, then load for labels and another geometry; with both official poolings."""
    convert_checkpoint(state_dict(entry), ssast_config(layout_config(entry))).save_pretrained(tmp_path)
    facts = entry["config"]
    tensors = {}
    for official, pooling in (("avgtok", "mean"), ("cls", "prefix")):
        model = SSASTForAudioClassification.from_pretrained(
            tmp_path, pooling=pooling, num_labels=facts["num_labels"], **geometry(facts)
        )
        load_new_head(model, entry)
        _, run = encode(model, inputs["input_values"])
        tensors |= run | {f"logits_{official}": run["logits"], f"features_{official}": run["features"]}
    return to_numpy(tensors)


def run_ssast_superb(entry: dict[str, Any], inputs: dict[str, Any], tmp_path: Path) -> Result:
    convert_checkpoint(state_dict(entry), ssast_config(layout_config(entry))).save_pretrained(tmp_path)
    model = SSASTModel.from_pretrained(tmp_path, **geometry(entry["config"]))
    outputs, tensors = encode(model, inputs["input_values"])
    torch.testing.assert_close(outputs.last_hidden_state, tensors["last_hidden_state"])
    assert len(outputs.hidden_states) == 1 + entry["config"]["n_hidden_states"]
    return to_numpy(tensors)


def geometry(facts: dict[str, Any]) -> dict[str, int]:
    return {
        "max_length": facts["input_tdim"],
        "num_mel_bins": facts["input_fdim"],
        "frequency_stride": facts["fstride"],
        "time_stride": facts["tstride"],
    }


RUNNERS = {
    "ssast_pretrain": run_ssast_pretrain,
    "ssast_finetune": run_ssast_finetune,
    "ssast_superb": run_ssast_superb,
}
