"""Parts of models before transformers 5.2."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as _FUNCTIONS

try:
    from transformers.utils.generic import merge_with_config_defaults
    from transformers.utils.output_capturing import capture_outputs
except ImportError:  # before 5.2, one decorator does both
    from transformers.utils.generic import check_model_inputs as capture_outputs

    def merge_with_config_defaults(forward: Any) -> Any:
        """Leave the forward pass as it is."""
        return forward


if hasattr(_FUNCTIONS, "get_interface"):
    ALL_ATTENTION_FUNCTIONS: Any = _FUNCTIONS
else:  # before 5.1

    class ALL_ATTENTION_FUNCTIONS:  # noqa: N801  # as in transformers  # noqa: N801  # the name that it has in transformers
        """transformers' functions of attention."""

        @staticmethod
        def get_interface(name: str | None, default: Callable[..., Any]) -> Callable[..., Any]:
            """The function of that name, the default for "eager"."""
            function: Callable[..., Any] = default if name in (None, "eager") else _FUNCTIONS[name]
            return function


try:
    from transformers.masking_utils import create_bidirectional_mask
except ImportError:  # before 5.0

    def create_bidirectional_mask(config: Any, tokens: Tensor, token_mask: Tensor | None) -> Tensor | None:
        """The mask of tokens (B, N) in the form that the attention function takes."""
        if token_mask is None or token_mask.all():
            return None
        implementation = config._attn_implementation or "eager"
        if "flex" in implementation:
            raise ValueError(
                f"attn_implementation={implementation!r} with padding needs transformers 5; choose 'sdpa', or upgrade."
            )
        return token_mask if "flash" in implementation else token_mask[:, None, None, :]
