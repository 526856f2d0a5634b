"""Key map from transformers' own AST checkpoints, in their old (ViT-like) and their v5 layout."""

from typing import Any

from transformers import Concatenate, WeightConverter
from transformers.core_model_loading import ConversionOps, WeightRenaming

# Old names first: they become v5 names, which then become ours. No pattern matches a key of ours.
RENAMINGS = {
    r"^audio_spectrogram_transformer\.": "backbone.",
    r"encoder\.layer\.": "layers.",
    r"attention\.attention\.query": "attention.q_proj",
    r"attention\.attention\.key": "attention.k_proj",
    r"attention\.attention\.value": "attention.v_proj",
    r"attention\.output\.dense": "attention.proj",
    r"attention\.o_proj": "attention.proj",
    r"intermediate\.dense": "feed_forward.fc1",
    r"(?<!attention\.)output\.dense": "feed_forward.fc2",
    r"mlp\.fc1": "feed_forward.fc1",
    r"mlp\.fc2": "feed_forward.fc2",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"embeddings\.patch_embeddings\.projection": "embeddings.patch_embedding.projection",
    r"classifier\.layernorm": "classifier.norm",
    r"classifier\.dense": "classifier.linear",
    r"(?<!\w)layernorm(?!\w)": "norm",
}


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
                f"The checkpoint has {table.shape[1]} positions, its config describes 2 + {shape[1]} x {shape[2]}."
            )
        return {prefix: table[:, :2].contiguous(), patches: table[:, 2:].reshape(shape)}


def native_ast_mapping() -> list[WeightConverter | WeightRenaming]:
    """The key map, for `register_checkpoint_conversion_mapping`."""
    return [
        *(WeightRenaming(source, target) for source, target in RENAMINGS.items()),
        WeightConverter(
            ["attention.q_proj", "attention.k_proj", "attention.v_proj"], "attention.qkv", [Concatenate(dim=0)]
        ),
        WeightConverter(
            "embeddings.position_embeddings",
            ["embeddings.prefix_positions", "embeddings.positions.table"],
            [SplitPositions()],
        ),
    ]
