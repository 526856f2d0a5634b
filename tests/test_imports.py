"""What importing costs and needs, and who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hf_ast
from tests.support.interpreter import PACKAGE, ROOT, run

TORCH_ONLY = sorted(path.stem for path in (PACKAGE / "models").glob("modules_*.py"))


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = run("import hf_ast; print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize(
    "before",
    [
        "from transformers import AutoModel, AutoFeatureExtractor, pipeline; import hf_ast",
        # Asking where a module is does not use up its registration
        "import hf_ast, importlib.util; importlib.util.find_spec('transformers.models.auto.modeling_auto')",
        pytest.param("import hf_ast; from transformers import AutoFeatureExtractor", marks=pytest.mark.slow),
        pytest.param("import hf_ast; from transformers import Trainer", marks=pytest.mark.slow),
        pytest.param("import hf_ast; import transformers.modeling_utils", marks=pytest.mark.slow),
        pytest.param("import hf_ast; from transformers import pipeline", marks=pytest.mark.slow),
        pytest.param("import hf_ast; from hf_ast import HfASTForAudioClassification", marks=pytest.mark.slow),
    ],
)
def test_registration_works_in_any_order_of_imports(before: str) -> None:
    code = f"""{before}
from transformers import AutoConfig, AutoModelForAudioClassification, AutoFeatureExtractor
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING
config = AutoConfig.for_model("hf-ast", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
print("hf_ast.models.modeling_ast" in sys.modules)  # model code loads when a model is asked for
print(type(AutoModelForAudioClassification.from_config(config)).__name__)
print(MODEL_MAPPING[type(config)].__name__, FEATURE_EXTRACTOR_MAPPING[type(config)].__name__)
"""
    loaded = str("from hf_ast" in before)
    assert run(code).split() == [loaded, "HfASTForAudioClassification", "HfASTModel", "HfASTFeatureExtractor"]


@pytest.mark.slow
def test_no_module_reaches_for_the_network_when_it_is_imported() -> None:
    """Python reports every connection and every look-up of a name to the hook, whoever makes it."""
    code = """
import importlib, pkgutil, socket, sys
import hf_ast

def refuse(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.sendto")):
        raise SystemExit(f"{event}{arguments} while {name} was imported")

sys.addaudithook(refuse)
count = 0
for found in pkgutil.walk_packages(hf_ast.__path__, "hf_ast."):
    name = found.name
    if not name.endswith("__main__"):  # which runs the commands
        importlib.import_module(name)
        count += 1
try:
    socket.create_connection(("127.0.0.1", 9))
except SystemExit:
    print(count)
"""
    assert int(run(code)) > 150


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


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*_*.py")), ids=lambda path: path.stem)
def test_no_family_imports_another(path: Path) -> None:
    """What else generated code needs of the files, the generator checks (tests/models/test_generator.py)."""
    families = {config.stem.removeprefix("configuration_") for config in path.parent.glob("configuration_*.py")}
    families.discard("common")
    for module in imports(path):
        if module.startswith((".configuration_", ".feature_extraction_", ".modeling_")):
            assert not families & set(module.split("_")) - set(path.stem.split("_")), module


ROOMS = "Rooms build on each other in one direction"
ONLY_MODELS = "The converter knows only the models"


ALLOWED = {
    "hf_ast/plotting/reconstruction.py": "from hf_ast import inference",
    "hf_ast/training/crops.py": "from hf_ast.plotting import reconstruction",
}
# File, line, and the contract and the import that are found
REFUSED = [
    ("hf_ast/data/audio.py", "from .. import cli", ROOMS, "hf_ast.data.audio -> hf_ast.cli"),
    (
        "hf_ast/inference/tagging.py",
        "from hf_ast import training",
        ROOMS,
        "hf_ast.inference.tagging -> hf_ast.training",
    ),
    (
        "hf_ast/inference/embeddings.py",
        "def late():\n    import hf_ast.cli",
        ROOMS,
        "hf_ast.inference.embeddings -> hf_ast.cli",
    ),
    (
        "hf_ast/plotting/reconstruction.py",
        "import hf_ast.training.pretraining",
        ROOMS,
        "hf_ast.plotting.reconstruction -> hf_ast.training.pretraining",
    ),
    ("hf_ast/training/crops.py", "from .. import cli", ROOMS, "hf_ast.training.crops -> hf_ast.cli"),
    (
        "hf_ast/models/modules_encoder.py",
        "from ..inference import embeddings",
        ROOMS,
        "hf_ast.models.modules_encoder -> hf_ast.inference.embeddings",
    ),
    (
        "hf_ast/remote_code/generator.py",
        "import hf_ast.models",
        ROOMS,
        "hf_ast.remote_code.generator -> hf_ast.models",
    ),
    (
        "hf_ast/conversion/verify.py",
        "from hf_ast.plotting import plot_reconstruction",
        ONLY_MODELS,
        "hf_ast.conversion.verify -> hf_ast.plotting",
    ),
]


def lint(folder: Path, lines: list[tuple[str, str]]) -> str:
    """What `lint-imports` prints, as `make lint` runs it, about a copy of the code with more lines."""
    for path in (*PACKAGE.rglob("*.py"), ROOT / "pyproject.toml"):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    for file, line in lines:
        with (folder / file).open("a") as stream:
            stream.write(f"\n{line}\n")
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=folder, env={"COLUMNS": "200", "PATH": ""},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode == 0) == (" BROKEN" not in result.stdout), result.stdout + result.stderr
    return result.stdout


def test_the_contracts_on_imports_hold(tmp_path: Path) -> None:
    assert " BROKEN" not in lint(tmp_path, list(ALLOWED.items()))


def test_the_contracts_on_imports_name_every_import_that_breaks_them(tmp_path: Path) -> None:
    printed = lint(tmp_path, [(file, line) for file, line, _, _ in REFUSED])
    of_contract = dict(zip((ROOMS, ONLY_MODELS), printed.split("Broken contracts")[1].split(ONLY_MODELS), strict=True))
    for _, line, contract, broken in REFUSED:
        assert f"- {broken} (l." in " ".join(of_contract[contract].split()), line


def test_type_checkers_see_what_is_exported() -> None:
    """The imports for type checkers name the same things, from the same files, as the lazy ones."""
    seen = {
        alias.name: node.module
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module not in (None, "auto")
        for alias in node.names
    }
    assert seen == hf_ast._EXPORTS
