"""Learning rates and weight decay by depth, as parameter groups for any optimiser."""

from typing import Any

from torch import nn

DECAYED_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d)


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    *,
    layer_decay: float = 1.0,
    head_multiplier: float = 1.0,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Split the parameters of a model into groups with their own learning rate and weight decay.

    The learning rate of the last layer is `learning_rate * layer_decay`, of the one before it
    `learning_rate * layer_decay**2`, and so on down to the embeddings. The final norm has `learning_rate`, and the
    head `learning_rate * head_multiplier`. This is the decay of BEiT; the official SSAST code trains heads with 10 to
    100 times the rate of the backbone.

    For `Trainer`: `optimizer_cls_and_kwargs=(torch.optim.AdamW, {"params": parameter_groups(model, 1e-4)})`.

    Args:
        model: A model of this package, with or without adapters of peft.
        learning_rate: Peak learning rate of the final norm.
        layer_decay: Factor from one layer to the one below it, in (0, 1].
        head_multiplier: Factor for everything outside the backbone: the classifier, or the pretraining objectives.
        weight_decay: For the weights of linear layers and convolutions. Norms, biases, tokens and position tables are
            not decayed.

    Returns:
        Groups with `params`, `lr`, `weight_decay`, and a `name` such as "layers.3, decayed", from the embeddings to
        the head. Each parameter that requires a gradient is in exactly one of them.

    Raises:
        ValueError: A factor is out of range, the model has another structure, or all of it is frozen.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay} must be in (0, 1]; 1 gives all layers the same learning rate.")
    for name, value in (("learning_rate", learning_rate), ("head_multiplier", head_multiplier)):
        if value <= 0:
            raise ValueError(f"{name}={value} must be positive.")
    if weight_decay < 0:
        raise ValueError(f"weight_decay={weight_decay} must not be negative; 0 switches it off.")
    parts = _parts(model)
    num_layers = len(parts) - 3
    groups = []
    for depth, (part, parameters) in enumerate(parts.items()):
        rate = learning_rate * layer_decay ** max(0, num_layers + 1 - depth)
        if part == "head":
            rate *= head_multiplier
        for kind, decay, is_decayed in (("decayed", weight_decay, True), ("not decayed", 0.0, False)):
            members = [parameter for parameter, of_kind in parameters if of_kind == is_decayed]
            if members:
                groups.append({"params": members, "lr": rate, "weight_decay": decay, "name": f"{part}, {kind}"})
    if not groups:
        raise ValueError("model has no parameter that requires a gradient; unfreeze some of it first.")
    return groups


def _parts(model: nn.Module) -> dict[str, list[tuple[nn.Parameter, bool]]]:
    """Return the trainable parameters by part, from bottom to top, and whether each is to be decayed."""
    backbone: Any = getattr(model, "backbone", model)
    if not (hasattr(backbone, "embeddings") and hasattr(backbone, "layers")):
        raise ValueError(
            f"model is a {type(model).__name__} without the parts `embeddings` and `layers`; pass a model of hf_ast."
        )
    modules: dict[str, nn.Module] = {"embeddings": backbone.embeddings}
    modules |= {f"layers.{number}": layer for number, layer in enumerate(backbone.layers)}
    modules |= {"norm": backbone, "head": model}  # what the earlier parts have not taken
    decayed = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, DECAYED_MODULES) and module.weight.ndim > 1
    }
    parts: dict[str, list[tuple[nn.Parameter, bool]]] = {}
    seen: set[int] = set()
    for name, module in modules.items():
        new = [p for p in module.parameters() if p.requires_grad and id(p) not in seen]
        seen |= {id(parameter) for parameter in new}
        parts[name] = [(parameter, id(parameter) in decayed) for parameter in new]
    return parts
