"""Configs before transformers 5.4, which are no dataclasses."""

from dataclasses import dataclass, fields, is_dataclass
from inspect import get_annotations
from types import UnionType
from typing import Any, Union, get_args

from huggingface_hub.dataclasses import strict as _strict

try:
    from transformers import PreTrainedConfig as _Config
except ImportError:  # before 5.0
    from transformers import PretrainedConfig as _Config

if is_dataclass(_Config):
    PreTrainedConfig: Any = _Config
    strict: Any = _strict
else:

    def strict(config_class: Any) -> Any:
        """Make a config class a dataclass whose fields are checked when they are set."""
        # huggingface_hub before 1.0 knows unions only in their older form
        config_class.__annotations__ = {
            name: Union[get_args(annotation)] if isinstance(annotation, UnionType) else annotation  # noqa: UP007
            for name, annotation in get_annotations(config_class).items()
        }
        return _strict(dataclass(init=False, repr=False, eq=False)(config_class))

    @strict
    class PreTrainedConfig(_Config):
        """A config with the fields of a dataclass."""

        id2label: Any = None
        validate_rope = None  # in 5.0 to 5.3 not of the form that `strict` takes

        def __init__(self, **kwargs: Any) -> None:
            for field in fields(self):
                setattr(self, field.name, kwargs.pop(field.name, field.default))
            self.__post_init__(**kwargs)

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
