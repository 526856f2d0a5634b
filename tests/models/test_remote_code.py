"""A saved folder opens in a process that has transformers but not hf_ast."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

from hf_ast import HfASTFeatureExtractor, HfASTForAudioClassification, HfASTModel
from tests.support import opened
from tests.support.hub_cache import put_into_cache
from tests.support.interpreter import ROOT, run
from tests.support.loopback_hub import LoopbackHub
from tests.support.saved import SAVED, save_all
from tests.support.tiny import randomize, tiny_model

# Of each folder: the files of its model, of its front end, and classes of others
MODEL_OF = {"ast-frames": "ast", "maest": "ast", "fpasst-frames": "fpasst", "ssast-pretraining": "ssast"}
FRONT_END_OF = {"ast-frames": "ast", "fpasst-frames": "fpasst", "ssast": "ast", "ssast-pretraining": "ast"}
OTHER_FAMILIES = {
    "ast": ("PaSST", "SSAST", "FPaSST"),
    "passt": ("HfAST", "SSAST", "FPaSST"),
    "ssast": ("HfASTConfig", "PaSST", "FPaSST"),
    "fpasst": ("HfAST", "PaSST", "SSAST"),
}


def files_of(name: str) -> set[str]:
    model = MODEL_OF.get(name, name)
    return {
        f"configuration_{model}.py",
        f"modeling_{model}.py",
        f"feature_extraction_{FRONT_END_OF.get(name, name)}.py",
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def by_remote_code(
    request: pytest.FixtureRequest, folders: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a folder computes without the package, in a process of its own, which takes ten seconds."""
    home, name = tmp_path_factory.mktemp("home"), request.param
    put_into_cache(folders / name, home, f"org/{name}")
    program = [sys.executable, str(ROOT / "tests/support/opened.py"), str(home / "out.json"), "--hub", "org"]
    environment = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*program, str(folders / name)],
        env=environment, cwd=home, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return {"name": name} | json.loads((home / "out.json").read_text())[name]


def in_processes(*names: str) -> pytest.MarkDecorator:
    """What these folders compute; AST's in the fast tests, too."""
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in names if name != "ast"]
    return pytest.mark.parametrize("by_remote_code", ["ast", *slow], indirect=True)


@in_processes(*SAVED)
def test_every_class_computes_the_same_bits_by_remote_code(folders: Path, by_remote_code: Any) -> None:
    """From a folder and from a Hub id: extractor, models, gradients, pipeline, another length."""
    torch.set_num_threads(1)
    name = by_remote_code["name"]
    expected = opened.opened(str(folders / name), opened.clips(folders / name))
    if "pipeline" in expected:  # by remote code, transformers' own pipeline scores one window
        classifier = pipeline("audio-classification", model=str(folders / name), top_k=None)
        assert type(classifier.feature_extractor).__name__ == expected["extractor"]
    assert json.loads(json.dumps(expected)) == by_remote_code["folder"] == by_remote_code["hub"]


@in_processes("ast", "maest", "passt", "fpasst", "ssast")
def test_what_is_saved_after_training_by_remote_code_is_complete(by_remote_code: Any) -> None:
    code = files_of(by_remote_code["name"])
    saved = by_remote_code["again"]
    assert saved["equal"]
    assert saved["code"] == dict.fromkeys(code, True)
    assert {value.partition(".")[0] + ".py" for value in saved["auto_map"].values()} == code
    assert {"AutoConfig", "AutoModel", "AutoModelForAudioClassification", "AutoFeatureExtractor"} <= set(
        saved["auto_map"]
    )


@pytest.mark.parametrize("name", SAVED)
def test_a_folder_has_one_file_per_role_with_the_code_of_its_family(name: str, folders: Path) -> None:
    code = {path.name: path.read_text() for path in (folders / name).glob("*.py")}
    assert code.keys() == files_of(name)
    for other in OTHER_FAMILIES[MODEL_OF.get(name, name)]:
        # Not the class of another family, but names such as that of a position table
        assert not any(f"class {other}For" in text or f"class {other}Config" in text for text in code.values())
    assert sum(map(len, code.values())) < 240_000


@pytest.mark.parametrize("saver", ["model", "config", "extractor", "pipeline"])
def test_whatever_is_saved_comes_with_its_code(saver: str, folders: Path, tmp_path: Path) -> None:
    classifier = pipeline("audio-classification", model=str(folders / "passt"))
    parts = {"model": classifier.model, "config": classifier.model.config, "extractor": classifier.feature_extractor}
    parts["pipeline"] = classifier
    parts[saver].save_pretrained(tmp_path)
    roles = {"model": ["configuration", "modeling"], "config": ["configuration"], "extractor": ["feature_extraction"]}
    expected = roles.get(saver, ["configuration", "feature_extraction", "modeling"])
    assert sorted(path.name for path in tmp_path.glob("*.py")) == [f"{role}_passt.py" for role in expected]


@pytest.mark.parametrize("name", ["maest", "passt"])
def test_what_is_pushed_to_the_hub_comes_with_its_code(
    name: str, folders: Path, hub: LoopbackHub, tmp_path: Path
) -> None:
    """By `push_to_hub` of one part after the other, and by saving with `push_to_hub=True`."""
    model = AutoModelForAudioClassification.from_pretrained(folders / name)
    extractor = AutoFeatureExtractor.from_pretrained(folders / name)
    for part in (model, extractor):  # transformers splits the path of the extractor as text
        part.push_to_hub(f"me/pushed-{name}")
        part.save_pretrained(str(tmp_path / "saved"), push_to_hub=True, repo_id=f"me/saved-{name}")
    for repo_id in (f"me/pushed-{name}", f"me/saved-{name}"):
        files = hub.repositories[repo_id].commits[-1].files
        code = {file: (hub.storage / files[file].sha256).read_bytes() for file in files if file.endswith(".py")}
        assert code == {path.name: path.read_bytes() for path in (folders / name).glob("*.py")}
        assert {"config.json", "model.safetensors", "preprocessor_config.json"} < files.keys()


def test_the_same_code_is_saved_twice_and_the_package_keeps_its_own(tmp_path: Path) -> None:
    model = randomize(HfASTModel(tiny_model().config))
    for name in ("a", "b"):
        model.save_pretrained(tmp_path / name)
        HfASTFeatureExtractor().save_pretrained(tmp_path / name)
    for path in (tmp_path / "a").glob("*.py"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    for saved_class in (HfASTModel, HfASTFeatureExtractor, type(model.config)):
        module = sys.modules[saved_class.__module__]
        assert module.__file__ == module.__spec__.origin


@pytest.mark.slow
def test_attention_can_be_changed_by_remote_code(folders: Path) -> None:
    """transformers looks for words in the code, and without them keeps the attention as it was, in silence."""
    code = f"""
from transformers import AutoModel
model = AutoModel.from_pretrained({str(folders / "ast")!r}, trust_remote_code=True)
model.set_attn_implementation("eager")
print(model.config._attn_implementation)
"""
    environment = {"HF_HOME": str(folders / "cache"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    assert run(code, without=("hf_ast",), env=environment).strip() == "eager"


def test_too_old_a_version_is_one_sentence(folders: Path) -> None:
    code = f"""
import importlib.metadata
original = importlib.metadata.version
importlib.metadata.version = lambda name: "4.44.2" if name == "transformers" else original(name)
from transformers import AutoConfig
try:
    AutoConfig.from_pretrained({str(folders / "ast")!r}, trust_remote_code=True)
except ImportError as error:
    print(" ".join(str(error).split()))
"""
    environment = {"HF_HOME": str(folders / "cache"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    assert run(code, without=("hf_ast",), env=environment).strip() == (
        "transformers>=4.57 is required for a normal functioning of this module, but found transformers==4.44.2. The "
        "code of this model does not run below it; upgrade, or convert the model anew."
    )


def test_checkpoints_of_transformers_own_ast_are_refused_where_they_would_load_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import ASTConfig, ASTForAudioClassification
    from transformers.utils import versions

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ASTForAudioClassification(ASTConfig(**size, max_length=32, num_mel_bins=32)).save_pretrained(tmp_path)
    HfASTForAudioClassification.from_pretrained(tmp_path)
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda name: "5.5.4")
    with pytest.raises(ImportError, match=r"transformers>=5\.9 is required .*\n.*own AST"):
        HfASTForAudioClassification.from_pretrained(tmp_path)


def test_a_class_of_a_notebook_is_saved_without_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its code cannot be saved: the config names none, instead of `__main__`, and transformers says so."""
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "HfASTModel", HfASTModel, raising=False)  # as `from hf_ast import HfASTModel` does
    notebook_class = type("Probe", (HfASTForAudioClassification,), {"__module__": "__main__"})
    tiny_model().save_pretrained(tmp_path / "before")
    model = notebook_class.from_pretrained(tmp_path / "before")
    model.save_pretrained(tmp_path / "after")
    saved = json.loads((tmp_path / "after" / "config.json").read_text())
    assert saved["auto_map"] == {"AutoConfig": "configuration_ast.HfASTConfig"}
    assert "We can't save the code defining" in caplog.text
    opened_again = AutoModelForAudioClassification.from_pretrained(tmp_path / "after")
    assert type(opened_again) is HfASTForAudioClassification
    torch.testing.assert_close(opened_again.state_dict(), model.state_dict(), atol=0, rtol=0)
