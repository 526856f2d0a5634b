"""The fast setting: a model prepared for fast inference at a stated loss of precision."""

import timeit
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_ast.models.modules_encoder import EncoderLayer

logger = logging.get_logger(__name__)

PRECISIONS = ("float32", "bfloat16", "int8")
# Rows and columns of the product that is timed to decide about bfloat16 on a CPU, and the least speed-up that counts
PRODUCT_SIZE = (1024, 768)
SMALLEST_GAIN = 1.2


def prepare_fast(
    model: PreTrainedModel, *, precision: str | None = None, compiled: bool = False, token_merging: float = 0.0
) -> PreTrainedModel:
    """Prepare one of our models for fast inference, in place; put it on its device first.

    The logits stay within 2 % of their range in bfloat16, and within 4 % in int8. bfloat16 only rounds weights and
    activations; on a CPU that multiplies it faster than float32, it also replaces the attention kernel by
    `per_head_attention`. int8 quantises the weights of the encoder's linear layers per channel and their inputs per
    token (torchao), and computes the rest in `fastest_precision`; it pays off only if `compiled`.

    Batching clips of similar lengths (`hf_ast.score_clips`) also saves time, without any such loss.

    Args:
        model: An AST, SSAST or PaSST; it is put into eval mode.
        precision: One of `PRECISIONS`; `fastest_precision` if None.
        compiled: Whether to compile the model (`torch.compile`). The first call, and the first one with another shape,
            then take about a minute.
        token_merging: See `SpectrogramConfig`. Unlike the rest, it changes what the model computes, beyond rounding.

    Returns:
        The same model.

    Raises:
        ValueError: The precision is unknown, or the model is not one of ours.
        ImportError: int8 needs torchao, which is not installed.
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
    rest = fastest_precision(model.device) if precision == "int8" else precision
    if rest == "bfloat16":
        nn.Module.to(model, torch.bfloat16)
        if model.device.type == "cpu" and _cpu_multiplies_bfloat16_faster(torch.get_num_threads()):
            model.set_attn_implementation("per_head")
    if precision == "int8":
        _quantize(layers)
    if compiled:
        model.compile()
    return model


def fastest_precision(device: torch.device) -> str:
    """Choose "bfloat16" where the device multiplies it faster than float32, else "float32".

    On a CPU this is measured, once per number of threads: many CPUs have no units for bfloat16 and emulate it slowly;
    others have the instructions of AVX512-bf16, but multiply at half the rate of float32.
    """
    if device.type != "cpu" or _cpu_multiplies_bfloat16_faster(torch.get_num_threads()):
        return "bfloat16"
    logger.warning_once("This CPU multiplies bfloat16 no faster than float32; the fast setting computes in float32.")
    return "float32"


@cache
def _cpu_multiplies_bfloat16_faster(num_threads: int) -> bool:
    cpu: Any = torch.cpu
    if not (cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()):
        return False  # emulated; measuring it could take seconds
    return _product_s(torch.bfloat16) < _product_s(torch.float32) / SMALLEST_GAIN


@torch.inference_mode()
def _product_s(dtype: torch.dtype) -> float:
    """Shortest duration of a product like those in a layer of a base model, in seconds."""
    inputs, weights = torch.ones(PRODUCT_SIZE, dtype=dtype), torch.ones(PRODUCT_SIZE[1], PRODUCT_SIZE[1], dtype=dtype)
    return min(timeit.repeat(lambda: nn.functional.linear(inputs, weights), number=1, repeat=5))


def _quantize(layers: list[EncoderLayer]) -> None:
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise ImportError("precision='int8' needs torchao: pip install torchao") from error
    for layer in layers:
        quantize_(layer, Int8DynamicActivationInt8WeightConfig(), filter_fn=lambda m, _: isinstance(m, nn.Linear))
