"""A folder whose settings name code of its own: every path that loads a model, with a "y" on the terminal."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import HfApi

import hf_ast
from hf_ast import HfASTFeatureExtractor
from hf_ast.assets import RECORDINGS
from hf_ast.cli import main
from hf_ast.conversion.cards import write_card
from hf_ast.conversion.export import export_folder, open_model
from hf_ast.conversion.publish import publish_folder
from hf_ast.conversion.registry import CHECKPOINTS
from hf_ast.conversion.verify import verify_folder
from hf_ast.inference.hear import load_model
from hf_ast.inference.loading import load_pretraining
from hf_ast.opening import is_inside, open_safely
from hf_ast.training.pretraining import pretrain
from tests.support.labelled import write_folder
from tests.support.loopback_hub import LoopbackHub
from tests.support.tiny import tiny_model

CODE = """
import pathlib
pathlib.Path({marker!r}).touch()
from transformers import PreTrainedConfig as Config, PreTrainedModel as Model, SequenceFeatureExtractor as Extractor
"""
YES = str(RECORDINGS / "yes.flac")
PICTURES = ("spectrogram", "timeline", "attention", "similarity", "patchout", "reconstruction")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "recordings", num_clips=3)


# A folder of one of our models opens without its code, so that the commands do their work
@pytest.fixture(params=["unknown", pytest.param("hf-ast", marks=pytest.mark.slow), "wav2vec2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a model that nobody knows, of one of ours, and of one of transformers; each with code in its settings."""
    folder = tmp_path / "model"
    tiny_model(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8).save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    for path in folder.glob("*.py"):
        path.unlink()
    (folder / "evil.py").write_text(CODE.format(marker=str(tmp_path / "code was run")), encoding="utf-8")
    classes = ("AutoModel", "AutoModelForAudioClassification", "AutoModelForPreTraining")
    auto_map = dict.fromkeys(classes, "evil.Model") | {
        "AutoConfig": "evil.Config",
        "AutoFeatureExtractor": "evil.Extractor",
    }
    for name in ("config.json", "preprocessor_config.json"):
        values = json.loads((folder / name).read_text(encoding="utf-8")) | {"auto_map": auto_map}
        values |= {"model_type": request.param} if name == "config.json" else {"feature_extractor_type": "Unknown"}
        (folder / name).write_text(json.dumps(values), encoding="utf-8")
    provenance = {
        "checkpoint": next(iter(CHECKPOINTS)),
        "source": {"sha256": "0" * 64, "file": "a.pth", "url": None},
        "changes": {},
    }
    (folder / "conversion.json").write_text(json.dumps(provenance), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    return folder


def commands(folder: str, data: str, out: Path) -> dict[str, list[str]]:
    model = ["--model", folder]
    pictures = {f"plot {kind}": ["plot", kind, YES, *model, "--out", str(out / f"{kind}.png")] for kind in PICTURES}
    return pictures | {
        "classify": ["classify", YES, *model],
        "tag": ["tag", YES, *model],
        "listen": ["listen", *model, "--duration", "0.1"],
        "embed": ["embed", YES, *model, "--out", str(out / "a.npz")],
        "extract": ["extract", str(RECORDINGS), *model, "--out", str(out / "corpus")],
        "evaluate": ["evaluate", folder, data],
        "stats": ["stats", data, *model],
        "finetune": ["finetune", data, *model, "--out", str(out / "tuned"), "--epochs", "1", "--num-workers", "0"],
        "pretrain": ["pretrain", data, *model, "--out", str(out / "ssast"), "--steps", "1", "--num-workers", "0"],
        "export": ["export", folder, "--to", "torch-export", "--out", str(out / "exported")],
        "export-official": ["export-official", folder, "--out", str(out / "official.pth")],
        "convert": ["convert", folder, "--out", str(out / "converted")],
        "verify": ["verify", folder, "--source", f"{folder}/config.json"],
        "card": ["card", folder],
        "info": ["info", folder],
        "publish": ["publish", folder, "--repo", "me/model"],
    }


def test_no_command_runs_the_code_of_a_folder(folder: Path, data: Path, tmp_path: Path) -> None:
    for name, arguments in commands(str(folder), str(data), tmp_path).items():
        main(arguments)
        assert not (tmp_path / "code was run").exists(), name
    assert sys.stdin.read() == "y\n" * 100  # nobody was asked


def test_no_function_runs_the_code_of_a_folder(folder: Path, data: Path, tmp_path: Path) -> None:
    calls: dict[str, Callable[[], object]] = {
        "load_classifier": lambda: hf_ast.load_classifier(folder),
        "load_encoder": lambda: hf_ast.load_encoder(folder),
        "load_pretraining": lambda: load_pretraining(folder),
        "extract": lambda: hf_ast.extract(RECORDINGS, tmp_path / "corpus", model=folder),
        "hear": lambda: load_model(str(folder)),
        "pretrain": lambda: pretrain(data, tmp_path / "out", model=folder, num_steps=1, num_workers=0),
        "write_card": lambda: write_card(folder),
        "verify_folder": lambda: verify_folder(folder, folder / "config.json"),
        "publish_folder": lambda: publish_folder(folder, "me/model"),
        "export_folder": lambda: export_folder(folder, tmp_path / "native", "native"),
        "open_model": lambda: open_model(folder),
    }
    for name, call in calls.items():
        with suppress(OSError, ValueError):
            call()
        assert not (tmp_path / "code was run").exists(), name
    assert sys.stdin.read() == "y\n" * 100


def test_nothing_runs_the_code_of_a_model_on_the_hub(
    folder: Path, data: Path, hub: LoopbackHub, tmp_path: Path
) -> None:
    HfApi().create_repo("me/model")
    HfApi().upload_folder(repo_id="me/model", folder_path=folder)
    of_folder, of_hub = (commands(model, str(data), tmp_path) for model in (str(folder), "me/model"))
    for name in ("classify", "extract", "finetune"):
        assert of_hub[name] != of_folder[name]
        main(of_hub[name])
        assert not (tmp_path / "code was run").exists(), name
    main(["info", "me/model"])
    for load in (hf_ast.load_classifier, hf_ast.load_encoder, load_pretraining):
        with suppress(OSError, ValueError):
            load("me/model")
    assert not (tmp_path / "code was run").exists()
    assert any(request.endswith("/config.json") for request in hub.requests)
    assert sys.stdin.read() == "y\n" * 100


def test_demo_does_not_run_the_code_of_a_folder(folder: Path, tmp_path: Path) -> None:
    analysis = pytest.importorskip("hf_ast.demo.analysis")
    with pytest.raises((OSError, ValueError)):
        analysis.analyse(YES, folder)
    assert not (tmp_path / "code was run").exists()


OUTSIDE = [
    "../outside.safetensors",
    "a/../../b",
    "/etc/passwd",
    "..",
    "",
    "..\\b",
    "C:\\b",
    "C:b",
    "\\\\host\\b",
    "a\0b",
    7,
]


@pytest.mark.parametrize(
    ("how", "name"),
    [
        *(("index", name) for name in OUTSIDE),
        *((how, OUTSIDE[0]) for how in ("variant", "config")),
        *(pytest.param(how, name, marks=pytest.mark.slow) for how in ("variant", "config") for name in OUTSIDE[1:]),
    ],
)
def test_weights_outside_of_the_folder_are_refused(name: object, how: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    shutil.copy(folder / "model.safetensors", tmp_path / "outside.safetensors")
    if how == "config":
        values = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"transformers_weights": name}
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    else:
        (folder / "model.safetensors").unlink()
        index = {"metadata": {"total_size": 1}, "weight_map": {"classifier.linear.bias": name}}
        file = "model.safetensors.index.json" if how == "index" else "pytorch_model.bin.index.json"
        (folder / file).write_text(json.dumps(index), encoding="utf-8")
    for load in (hf_ast.load_classifier, hf_ast.load_encoder, open_model):
        with pytest.raises(ValueError, match=r"as a file of weights, but it must be in the same folder"):
            load(folder)


def test_a_sharded_folder_opens(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    again = open_safely(type(model), tmp_path)
    assert all((again.state_dict()[name] == value).all() for name, value in model.state_dict().items())
    assert is_inside("sub/model-00001-of-00002.safetensors")
