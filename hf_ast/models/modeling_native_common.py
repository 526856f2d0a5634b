"""Key map from transformers' own AST checkpoints, in their old (ViT-like) and their v5 layout."""

import re
from typing import Any

from transformers import Concatenate, WeightConverter
from transformers.core_model_loading import ConversionOps, WeightRenaming

# Names in the old (ViT-like) layout -> names in that of version 5
OLD_RENAMINGS = {
    r"encoder\.layer\.": "layers.",
    r"attention\.attention\.query": "attention.q_proj",
    r"attention\.attention\.key": "attention.k_proj",
    r"attention\.attention\.value": "attention.v_proj",
    r"attention\.output\.dense": "attention.o_proj",
    r"intermediate\.dense": "mlp.fc1",
    r"(?<!attention\.)output\.dense": "mlp.fc2",
}
# Parts of names in version 5 -> ours, for both directions: a part is replaced where it stands between dots, in this
# order. No part of one side occurs in a name of the other.
PARTS = {
    "audio_spectrogram_transformer": "backbone",
    "embeddings.patch_embeddings": "embeddings.patch_embedding",
    "attention.o_proj": "attention.proj",
    "mlp": "feed_forward",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layernorm": "norm",
    "classifier.dense": "classifier.linear",
}


def to_native_name(name: str) -> str:
    """Our name of a tensor -> its name in version 5 of transformers' own AST, if that has such a tensor."""
    for native, ours in PARTS.items():
        name = re.sub(_whole(ours), native, name)
    return name


def _whole(part: str) -> str:
    """A pattern for a part of a name that stands between dots, or at an end."""
    return rf"(?<!\w){re.escape(part)}(?!\w)"


class SplitPositions(ConversionOps):
    """One table (1, 2 + F' * T', D) -> prefix positions (1, 2, D) and patch positions (1, F', T', D)."""

    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        **kwargs: Any,
    ) -> dict[str, Any]:
        """See the class; `target_patterns` are the names of the two results."""
        full_layer_name, model = kwargs["full_layer_name"], kwargs["model"]
        (tensors,) = input_dict.values()
        table = tensors[0] if isinstance(tensors, list) else tensors
        prefix, patches = target_patterns
        shape = model.get_parameter(full_layer_name.replace(prefix, patches)).shape
        if table.shape[1] != 2 + shape[1] * shape[2]:
            raise ValueError(
                f"The checkpoint has {table.shape[1]} positions, but its config describes 2 + {shape[1]} x {shape[2]}."
            )
        return {prefix: table[:, :2].contiguous(), patches: table[:, 2:].reshape(shape)}


def native_ast_mapping() -> list[WeightConverter | WeightRenaming]:
    """The key map, for `register_checkpoint_conversion_mapping`."""
    return [
        *(WeightRenaming(source, target) for source, target in OLD_RENAMINGS.items()),
        *(WeightRenaming(_whole(native), ours) for native, ours in PARTS.items()),
        WeightConverter(
            ["attention.q_proj", "attention.k_proj", "attention.v_proj"],
            "attention.qkv",
            operations=[Concatenate(dim=0)],
        ),
        WeightConverter(
            "embeddings.position_embeddings",
            ["embeddings.prefix_positions", "embeddings.positions.table"],
            operations=[SplitPositions()],
        ),
    ]
