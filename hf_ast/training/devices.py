"""Where training runs, and in which precision, as arguments of `transformers.Trainer`."""

from typing import Any

from hf_ast.inference.devices import find_device, find_dtype


def device_arguments(device: str | None = None, dtype: str = "float32") -> dict[str, Any]:
    """Return the `TrainingArguments` for a device and a precision.

    Args:
        device: "cpu", or the kind of the accelerator ("cuda", ...); the accelerator if there is one, else the CPU, if
            None. Which of several accelerators are used is told by the launcher or by CUDA_VISIBLE_DEVICES.
        dtype: Precision of the products: "float32"; "bfloat16" or "float16", by autocast, where that is accurate
            enough. Weights, their updates and losses stay in float32. float16 needs an accelerator.

    Raises:
        ValueError: There is no such device, it has a number, or it does not train in that precision.
    """
    found, computed = find_device(device), str(find_dtype(dtype)).removeprefix("torch.")
    if device is not None and found.index is not None:
        raise ValueError(
            f"device={device!r} names one of several accelerators, but training uses those that it finds; set "
            f"CUDA_VISIBLE_DEVICES={found.index}, and leave the number out."
        )
    if computed == "float16" and found.type == "cpu":
        raise ValueError("dtype='float16' trains on accelerators only; on the CPU, choose 'bfloat16' or 'float32'.")
    return {
        "use_cpu": found.type == "cpu",  # without it, bfloat16 on a CPU is refused
        "bf16": computed == "bfloat16",
        "fp16": computed == "float16",
    }
