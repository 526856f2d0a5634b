"""Registration with transformers, as other code gets in its way."""

from tests.support.interpreter import run


def test_asking_for_the_spec_of_a_module_does_not_use_up_its_registration() -> None:
    code = """
import importlib.util
import hf_ast
importlib.util.find_spec("transformers.models.auto.modeling_auto")
from transformers import AutoConfig, AutoModelForAudioClassification
config = AutoConfig.for_model("passt", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
print(type(AutoModelForAudioClassification.from_config(config)).__name__)
"""
    assert run(code).strip() == "PaSSTForAudioClassification"


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
    assert "hf_ast could not register its models with transformers.models.auto.modeling_auto" in run(code)


def test_both_pipelines_are_registered() -> None:
    code = """
import hf_ast
from transformers.pipelines import PIPELINE_REGISTRY, AudioClassificationPipeline
for task in ("audio-classification", "audio-tagging"):
    _, entry, _ = PIPELINE_REGISTRY.check_task(task)
    print(entry["impl"].__name__, [model.__name__ for model in entry["pt"]], entry["type"])
print(issubclass(PIPELINE_REGISTRY.check_task("audio-classification")[1]["impl"], AudioClassificationPipeline))
"""
    assert run(code).splitlines() == [
        "WholeAudioClassificationPipeline ['AutoModelForAudioClassification'] audio",
        "AudioTaggingPipeline ['AutoModelForAudioClassification'] audio",
        "True",
    ]
