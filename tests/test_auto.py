"""Registration with transformers, as other code gets in its way."""

import tomllib
import warnings

import pytest
from packaging.requirements import Requirement
from transformers import AudioClassificationPipeline, AutoModelForAudioClassification
from transformers.pipelines import PIPELINE_REGISTRY

import hf_ast
from hf_ast import SSASTConfig
from hf_ast.auto import TESTED, version_warning
from hf_ast.inference.pipelines import AudioTaggingPipeline, WholeAudioClassificationPipeline
from tests.support.interpreter import ROOT, run


@pytest.mark.slow
def test_a_rename_in_transformers_does_not_break_transformers() -> None:
    code = """
import warnings
warnings.simplefilter("error", RuntimeWarning)
import transformers.models.auto.auto_factory as factory
original = factory._LazyAutoMapping.__init__
def renamed(self, *arguments):
    original(self, *arguments)
    del self._extra_content  # what a new version may call otherwise
factory._LazyAutoMapping.__init__ = renamed
factory._LazyAutoMapping.__contains__ = lambda self, key: True
import hf_ast
try:
    import transformers.models.auto.modeling_auto
except RuntimeWarning as warning:
    print(warning)
"""
    said = run(code)
    assert "hf_ast could not register with transformers.models.auto.modeling_auto (AttributeError" in said
    assert "the Auto classes or pipelines do not know its models" in said


@pytest.mark.slow
def test_a_model_type_of_somebody_else_is_kept_and_said() -> None:
    code = """
import warnings
from transformers import AutoConfig, PreTrainedConfig
class Other(PreTrainedConfig):
    model_type = "ssast"
AutoConfig.register("ssast", Other)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import hf_ast
print(AutoConfig.for_model("ssast").__class__.__name__, AutoConfig.for_model("passt").__class__.__name__)
print(*[warning.message for warning in caught if issubclass(warning.category, RuntimeWarning)])
"""
    opened, said = run(code).splitlines()
    assert opened == "Other PaSSTConfig"
    assert said.startswith("model_type 'ssast' already belongs to __main__.Other")


def test_registering_twice_changes_and_says_nothing() -> None:
    import transformers.models.auto.modeling_auto  # everything is registered by now

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        hf_ast.register()
    assert type(transformers.AutoConfig.for_model("ssast")) is SSASTConfig


@pytest.mark.parametrize(
    ("transformers", "torch", "said"),
    [
        ("5.10.0", "2.9.1", None),
        ("5.24.7", "2.15.0+cpu", None),
        ("5.25.0.dev0", "2.15.0", "transformers 5.10 to 5.24, not 5.25.0.dev0"),
        ("6.0.0", "2.16.0a0+git1", "transformers 5.10 to 5.24, not 6.0.0 and torch 2.9 to 2.15, not 2.16.0a0+git1"),
        ("5.9.0", "2.13.0", "transformers 5.10 to 5.24, not 5.9.0"),
    ],
)
def test_versions_that_were_not_run_are_named(transformers: str, torch: str, said: str | None) -> None:
    warning = version_warning({"transformers": transformers, "torch": torch})
    assert warning == (said and f"hf_ast was run with {said}: its results there are not known.")


def test_the_lowest_versions_that_were_run_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = {need.name: need.specifier for need in map(Requirement, project["dependencies"])}
    for package, (oldest, _) in TESTED.items():
        assert f">={oldest}" in str(lowest[package])


def test_both_pipelines_are_registered() -> None:
    pipelines = {"audio-classification": WholeAudioClassificationPipeline, "audio-tagging": AudioTaggingPipeline}
    for task, pipeline_class in pipelines.items():
        _, entry, _ = PIPELINE_REGISTRY.check_task(task)
        assert entry["impl"] is pipeline_class
        assert (entry["pt"], entry["type"]) == ((AutoModelForAudioClassification,), "audio")
    assert issubclass(WholeAudioClassificationPipeline, AudioClassificationPipeline)
