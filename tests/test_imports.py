"""What importing costs and needs, and who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

from tests.support.interpreter import PACKAGE, run

TORCH_ONLY = sorted(path.stem for path in (PACKAGE / "models").glob("modules_*.py"))


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = run("import hf_ast; print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize(
    "before",
    [
        "from transformers import AutoModel, AutoFeatureExtractor, pipeline; import hf_ast",
        "import hf_ast; from transformers import Trainer",
        "import hf_ast; import transformers.modeling_utils",
        "import hf_ast; from transformers import pipeline",
        "import hf_ast; from transformers import AutoFeatureExtractor",
        "import hf_ast; from hf_ast import HfASTForAudioClassification",
    ],
)
def test_registration_works_in_any_order_of_imports(before: str) -> None:
    code = f"""{before}
from transformers import AutoConfig, AutoModelForAudioClassification, AutoFeatureExtractor
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING
config = AutoConfig.for_model("hf-ast", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
print(type(AutoModelForAudioClassification.from_config(config)).__name__)
print(MODEL_MAPPING[type(config)].__name__, FEATURE_EXTRACTOR_MAPPING[type(config)].__name__)
"""
    assert run(code).split() == ["HfASTForAudioClassification", "HfASTModel", "HfASTFeatureExtractor"]


def test_model_code_loads_when_a_model_is_asked_for() -> None:
    code = """
import hf_ast
from transformers import AutoConfig, AutoModel
config = AutoConfig.for_model("hf-ast")
print("hf_ast.models.modeling_ast" in sys.modules)
"""
    assert run(code).strip() == "False"


def test_torch_only_modules_work_without_transformers() -> None:
    code = f"""
import importlib
for name in {TORCH_ONLY!r}:
    importlib.import_module(f"hf_ast.models.{{name}}")
import torch, hf_ast
backbone = hf_ast.SpectrogramTransformer(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_length=98
)
model = hf_ast.SpectrogramClassifier(backbone, num_labels=5).eval()
logits = model(hf_ast.KaldiFbank()(torch.randn(2, 16000)))
print(tuple(logits.shape), bool(logits.isfinite().all()), "transformers" in sys.modules)
"""
    without = ("transformers", "numpy", "safetensors", "huggingface_hub")
    assert run(code, without=without).strip() == "(2, 5) True False"


def imports(path: Path) -> list[str]:
    """Modules that a file imports, relative ones with their dots."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("name", TORCH_ONLY)
def test_torch_only_modules_import_torch_and_each_other(name: str) -> None:
    allowed = {"torch", *sys.stdlib_module_names}
    for module in imports(PACKAGE / "models" / f"{name}.py"):
        assert module.startswith(".modules_") or module.split(".")[0] in allowed, module


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_model_files_survive_being_copied_to_a_hub_repository(path: Path) -> None:
    """Only siblings by `from .sibling import name`, and nothing that a Hub user may lack."""
    families = {"ast", "ssast", "passt"}
    family = families & set(path.stem.split("_"))
    for module in imports(path):
        if module.startswith("."):
            assert (path.parent / f"{module[1:]}.py").is_file(), module
            if path.stem.startswith(("modeling_", "configuration_", "feature_extraction_")):
                assert not families & set(module.split("_")) - family, f"{path.stem} imports another family"
        else:
            assert module.split(".")[0] in {
                "torch",
                "transformers",
                "numpy",
                "huggingface_hub",
                *sys.stdlib_module_names,
            }


def test_layers_of_the_package() -> None:
    """models <- inference, training, export, plotting <- cli; nothing imports conversion."""
    for path in PACKAGE.rglob("*.py"):
        for module in imports(path):
            name = module.removeprefix("hf_ast").lstrip(".")
            assert not module.startswith("conversion"), path
            if path.name != "cli.py":
                assert name != "cli", path
            if path.parent.name == "models":
                assert not module.startswith(("hf_ast", "..")), path
