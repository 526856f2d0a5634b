"""Register our classes with transformers' Auto classes and pipelines, importing neither transformers nor a model.

transformers' registries hold classes, and importing those takes seconds. So each registration waits until transformers
imports the registry itself, and a model class is imported when a checkpoint needs it.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from .families import FAMILIES

# The oldest and the newest versions that were run (`make versions`); later releases of the newest minor version count
TESTED = {"transformers": ("5.10", "5.24"), "torch": ("2.9", "2.15")}


def register() -> None:
    """Register all families. Does nothing where transformers is not installed: its modules are never imported."""
    _when_imported("transformers.models.auto.configuration_auto", _register_configs)
    _when_imported("transformers.models.auto.feature_extraction_auto", _register_feature_extractors)
    _when_imported("transformers.models.auto.modeling_auto", _register_models)
    _when_imported("transformers.pipelines", _register_pipelines)


def load(path: str) -> Any:
    """The class at "file:class" in `hf_ast/models`."""
    file, name = path.split(":")
    return getattr(import_module(f"{__package__}.models.{file}"), name)


def _register_configs(configuration_auto: ModuleType) -> None:
    from importlib.metadata import version  # takes 20 ms

    if message := version_warning({package: version(package) for package in TESTED}):
        _warn(message)
    for family in FAMILIES:
        config_class = load(family.config)
        known = configuration_auto.CONFIG_MAPPING
        # Not `get`, which sees nothing of this mapping
        if family.model_type not in known or known[family.model_type] is config_class:
            configuration_auto.AutoConfig.register(family.model_type, config_class, exist_ok=True)
            continue
        other = known[family.model_type]
        _warn(
            f"model_type {family.model_type!r} already belongs to {other.__module__}.{other.__name__}, and the Auto "
            f"classes keep it; open models of hf_ast by its own classes ({config_class.__name__}, ...)."
        )


def _register_feature_extractors(feature_extraction_auto: ModuleType) -> None:
    for family in FAMILIES:
        feature_extractor = load(family.feature_extractor)
        if family.models:
            feature_extraction_auto.AutoFeatureExtractor.register(
                load(family.config), feature_extractor, exist_ok=True
            )
        else:
            # No config leads to it: folders name the class, and transformers looks for the name among the values
            feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING._extra_content[feature_extractor] = feature_extractor


def _register_models(modeling_auto: ModuleType) -> None:
    for family in FAMILIES:
        for name, path in family.models.items():
            mapping = getattr(modeling_auto, name)
            if not isinstance(mapping._extra_content, _ClassesByPath):
                mapping._extra_content = _ClassesByPath(mapping._extra_content)
            mapping.register(load(family.config), path, exist_ok=True)


def _register_pipelines(pipelines: ModuleType) -> None:
    """Add the audio-tagging pipeline, and let audio-classification score whole recordings for our models."""
    from transformers import AutoModelForAudioClassification

    from .inference.pipelines import AudioTaggingPipeline, WholeAudioClassificationPipeline

    registry = pipelines.PIPELINE_REGISTRY
    registry.register_pipeline(
        "audio-tagging", AudioTaggingPipeline, pt_model=AutoModelForAudioClassification, type="audio"
    )
    # Not by `register_pipeline`, which would print a warning and drop the default model of the task
    registry.supported_tasks["audio-classification"]["impl"] = WholeAudioClassificationPipeline


class _ClassesByPath(dict[Any, Any]):
    """Registered classes; ours are paths ("file:class") until they are first read."""

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, str):
            value = self[key] = load(value)
        return value

    def values(self) -> Any:
        return [self[key] for key in self]

    def items(self) -> Any:
        return [(key, self[key]) for key in self]


class _ImportHook(MetaPathFinder):
    """Calls a function with a module right after its import.

    Importing the registries instead would make `import hf_ast`, and every command, seconds slower.
    """

    def __init__(self, name: str, callback: Callable[[ModuleType], None]):
        self.name = name
        self.callback = callback

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_call(module: ModuleType) -> None:
            execute(module)
            # Not earlier, because a caller that only asks for the spec does not import the module
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _call(self.callback, module)

        spec.loader.exec_module = execute_and_call  # type: ignore[method-assign]
        return spec


def _when_imported(name: str, callback: Callable[[ModuleType], None]) -> None:
    """Call `callback(module)` now if the module is imported already, else as soon as it is."""
    module = sys.modules.get(name)
    if module is None:
        sys.meta_path.insert(0, _ImportHook(name, callback))
    else:
        _call(callback, module)


def _call(callback: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Register with a module of transformers; an error here must not break transformers for everyone else."""
    try:
        callback(module)
    except Exception as error:
        _warn(
            f"hf_ast could not register with {module.__name__} ({type(error).__name__}: {error}), so that the Auto "
            "classes or pipelines do not know its models. It was run with transformers "
            f"{' to '.join(TESTED['transformers'])}; install one of these."
        )


def version_warning(installed: Mapping[str, str]) -> str | None:
    """Say which packages are outside the versions that were run; None if all are within.

    Args:
        installed: Version by package, of those in `TESTED`.
    """
    outside = []
    for package, tested in TESTED.items():
        oldest, newest, found = (tuple(map(int, text.split(".")[:2])) for text in (*tested, installed[package]))
        if not oldest <= found <= newest:
            outside.append(f"{package} {' to '.join(tested)}, not {installed[package]}")
    return f"hf_ast was run with {' and '.join(outside)}: its results there are not known." if outside else None


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
