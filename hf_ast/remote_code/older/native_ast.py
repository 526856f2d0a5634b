"""The key map of transformers' own AST before 5.0, which cannot use one; `HfASTConfig` refuses such checkpoints."""

from typing import Any

try:
    from transformers import Concatenate, WeightConverter
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping
    from transformers.core_model_loading import ConversionOps, WeightRenaming
except ImportError:

    class ConversionOps:
        """A step that is never taken."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            pass

    Concatenate = WeightConverter = WeightRenaming = ConversionOps

    def register_checkpoint_conversion_mapping(name: str, mapping: Any, overwrite: bool = False) -> None:
        """Do nothing."""
