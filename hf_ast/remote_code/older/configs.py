"""Configs before transformers 5.4, which are no dataclasses."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from huggingface_hub.dataclasses import strict as _strict

try:
    from transformers import PreTrainedConfig as _Config
except ImportError:  # before 5.0
    from transformers import PretrainedConfig as _Config

if is_dataclass(_Config):
    PreTrainedConfig: Any = _Config
    strict: Any = _strict
else:

    @_strict(accept_kwargs=True)
    @dataclass(repr=False, eq=False)
    class PreTrainedConfig(_Config):
        """A config whose fields are checked when they are set, as since 5.4."""

        id2label: Any = None

        def __post_init__(self, **kwargs: Any) -> None:
            values = {field.name: getattr(self, field.name) for field in fields(self)}
            super().__init__(id2label=values.pop("id2label"), **kwargs)
            # It has a `max_length` of text generation, and sets it
            for name, value in values.items():
                setattr(self, name, value)

        def _get_generation_parameters(self) -> dict[str, Any]:
            return {}

        def _get_non_default_generation_parameters(self) -> dict[str, Any]:  # before 5.0
            return {}

    def strict(config_class: Any) -> Any:
        """Make a config class a dataclass with checks."""
        return _strict(accept_kwargs=True)(dataclass(repr=False, eq=False)(config_class))
