"""The fast setting: a model made ready for inference at a stated loss of precision."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_ast.models.modules_encoder import EncoderLayer

logger = logging.get_logger(__name__)

PRECISIONS = ("float32", "bfloat16", "int8")


def prepare_fast(
    model: PreTrainedModel, *, precision: str | None = None, compiled: bool = False, token_merging: float = 0.0
) -> PreTrainedModel:
    """Prepare one of our models for fast inference, in place; put it on its device first.

    The logits stay within 2 % of their range in bfloat16, and within 4 % in int8. bfloat16 does nothing but round
    weights and activations, and on a CPU exchange the attention kernel for `per_head_attention`. int8 quantises the
    weights of the encoder's linear layers per channel and their inputs per token (torchao), and computes the rest in
    bfloat16; it pays only if `compiled`.

    What else saves time without any such loss: clips of similar lengths without padding (`hf_ast.score_clips`).

    Args:
        model: An AST, SSAST or PaSST; it comes back in eval mode.
        precision: One of `PRECISIONS`; None is `fastest_precision`.
        compiled: Whether to compile the model (`torch.compile`). The first call, and that of another shape, then take
            about a minute.
        token_merging: See `SpectrogramConfig`. Unlike the rest, it changes what the model computes, beyond rounding.

    Returns:
        The same model.

    Raises:
        ValueError: The precision is unknown, or the model is none of ours.
        ImportError: int8, and torchao is not installed.
    """
    precision = fastest_precision(model.device) if precision is None else precision
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is unknown; choose one of {PRECISIONS}.")
    layers = [module for module in model.modules() if isinstance(module, EncoderLayer)]
    if not layers:
        raise ValueError(f"model is a {type(model).__name__}; the fast setting is for AST, SSAST and PaSST of hf_ast.")
    model.eval()
    model.config.token_merging = token_merging
    model.config.validate_numbers()
    if precision != "float32":
        nn.Module.to(model, torch.bfloat16)
        if model.device.type == "cpu":
            model.set_attn_implementation("per_head")
    if precision == "int8":
        _quantize(layers)
    if compiled:
        model.compile()
    return model


def fastest_precision(device: torch.device) -> str:
    """Choose "bfloat16" where the device has units for it, else "float32": a CPU takes longer to emulate them."""
    if device.type != "cpu" or _cpu_has_bfloat16():
        return "bfloat16"
    logger.warning_once("This CPU has no bfloat16 units; the fast setting computes in float32.")
    return "float32"


def _cpu_has_bfloat16() -> bool:
    cpu: Any = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def _quantize(layers: list[EncoderLayer]) -> None:
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise ImportError("precision='int8' needs torchao: pip install torchao") from error
    for layer in layers:
        quantize_(layer, Int8DynamicActivationInt8WeightConfig(), filter_fn=lambda m, _: isinstance(m, nn.Linear))
