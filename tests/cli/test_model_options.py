"""`--device`, `--dtype`, `--batch-size`, `--revision` and `--token`, of all commands that run a model."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch

import hf_ast
from hf_ast import HfASTFeatureExtractor
from hf_ast.assets import EMBEDDED_MODEL, RECORDINGS
from hf_ast.cli import main
from hf_ast.cli.app import ALL_COMMANDS, build
from tests.support.accelerator import DEVICE, accelerator
from tests.support.labelled import NOISE, PULSES, SKIPPED, TONES, write_folder
from tests.support.loopback_hub import TOKEN, LoopbackHub, serve
from tests.support.tiny import tiny_model, tiny_ssast
from tests.test_public_api import _leaves

YES = str(RECORDINGS / "yes.flac")
# Of bfloat16 with its 8 bits: logits of these small models stay within a few percent, and so do scores
TOLERANCE = 0.05
HUB = {"--revision", "--token"}
BATCHES = {"--device", "--dtype", "--batch-size", *HUB}
# Command -> arguments with places for the model, the data and an output, its options, and how to read its results
Reader = Callable[[str, Path], Any]


def printed(out: str, path: Path) -> Any:
    return json.loads(out)


def heard(out: str, path: Path) -> Any:
    """The largest score of each label."""
    return {event["label"]: event["peak"] for event in json.loads(out)[0]["events"]}


def embedded(out: str, path: Path) -> Any:
    return np.load(path)["embedding"].tolist()


def extracted(out: str, path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path / "data", columns=["scores"]).column("scores").to_pylist()


def drawn(out: str, path: Path) -> Any:
    assert path.stat().st_size > 2_000
    return None


def exported(out: str, path: Path) -> Any:
    assert (path / "metadata.json").is_file()
    return None


def trained(out: str, path: Path) -> Any:
    assert (path / "config.json").is_file()
    return None


MODEL = ["--model", "{model}"]
COMMANDS: dict[str, tuple[list[str], str, set[str], Reader]] = {
    "classify": ([YES, *MODEL, "--windows", "--json"], "", BATCHES, printed),
    "tag": ([YES, *MODEL, "--window", "0.4", "--hop", "0.1", "--threshold", "1e-9", "--json"], "", BATCHES, heard),
    "embed": ([YES, *MODEL, "--out", "{out}"], ".npz", BATCHES, embedded),
    "extract": ([str(RECORDINGS), *MODEL, "--out", "{out}", "--num-workers", "0"], "", BATCHES, extracted),
    "evaluate": (["{model}", "{data}", "--json"], "", BATCHES, printed),
    "stats": (["{data}", *MODEL, "--json"], "", BATCHES - {"--dtype", "--batch-size"}, printed),
    "export": (["{model}", "--to", "torch-export", "--from", "features", "--out", "{out}"], "", HUB, exported),
    "plot timeline": ([YES, *MODEL, "--out", "{out}"], ".png", BATCHES, drawn),
    "plot similarity": ([YES, str(RECORDINGS / "up.flac"), *MODEL, "--out", "{out}"], ".png", BATCHES, drawn),
    "plot attention": ([YES, *MODEL, "--out", "{out}"], ".png", BATCHES - {"--batch-size"}, drawn),
    "plot spectrogram": ([YES, *MODEL, "--out", "{out}"], ".png", BATCHES - {"--dtype", "--batch-size"}, drawn),
    "plot patchout": (
        [YES, *MODEL, "--time-patchout", "1", "--out", "{out}"], ".png", BATCHES - {"--dtype", "--batch-size"}, drawn,
    ),
    "plot reconstruction": ([YES, "--model", "{ssast}", "--out", "{out}"], ".png", BATCHES - {"--batch-size"}, drawn),
    "finetune": (
        ["{data}", *MODEL, "--out", "{out}", "--epochs", "1", "--num-workers", "0"], "", BATCHES - {"--batch-size"},
        trained,
    ),
    "probe": (["{data}", *MODEL, "--out", "{out}"], "", BATCHES - {"--dtype", "--batch-size"}, trained),
    "pretrain": (
        ["{data}", "--model", "{ssast}", "--out", "{out}", "--steps", "1", "--num-workers", "0"], "",
        BATCHES - {"--batch-size"}, trained,
    ),
}  # fmt: skip
# They wait for the microphone or for Ctrl-C; their own tests run them
WAITING = {"listen", "demo"}
RUN_MODELS = [name for name, (_, _, options, _) in COMMANDS.items() if "--device" in options]
# Training computes in float32 beside bfloat16, by `Trainer`, which needs a device that torch knows
INFERENCE = [name for name in RUN_MODELS if name not in ("finetune", "probe", "pretrain")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings that can all be read: others end commands with exit status 1."""
    folder = write_folder(tmp_path_factory.mktemp("data") / "recordings", num_clips=5)
    for name in SKIPPED:
        (folder / name).unlink()
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions of a classifier for the data, and a pretrained SSAST."""
    folder = tmp_path_factory.mktemp("models")
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50)
    labels = {0: PULSES, 1: NOISE, 2: TONES}
    made = {
        "model": tiny_model(id2label=labels, num_labels=3),
        "newer": tiny_model(seed=1, id2label=labels, num_labels=3),
        "ssast": tiny_ssast(),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
        extractor.save_pretrained(folder / name)
    return {name: folder / name for name in made}


@pytest.fixture(scope="module")
def usual_results() -> dict[str, Any]:
    """What commands give on the CPU, by command, as far as it was asked for."""
    return {}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_ast.cli.plot.DOTS_PER_INCH", 40)


class Runner:
    """Runs commands, each with an output of its own."""

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[str], usual_results: dict[str, Any], **places: object
    ):
        self.folder, self.capsys, self.places, self.number = folder, capsys, places, 0
        self.usual_results = usual_results

    def usual(self, name: str) -> Any:
        """The results of a command without options."""
        if name not in self.usual_results:
            self.usual_results[name] = self(name)
        return self.usual_results[name]

    def __call__(self, name: str, *options: str, **places: object) -> Any:
        """The results of a command, or else its exit status and its messages."""
        arguments, suffix, _, read = COMMANDS[name]
        self.number += 1
        out = self.folder / f"out{self.number}{suffix}"
        filled = [argument.format(out=out, **self.places | places) for argument in arguments]
        status = main([*name.split(), *filled, *options])
        output = self.capsys.readouterr()
        return read(output.out, out) if status == 0 else (status, output.err)


@pytest.fixture
def run(
    tmp_path: Path,
    data: Path,
    models: dict[str, Path],
    usual_results: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> Runner:
    return Runner(tmp_path, capsys, usual_results, data=data, **models)


def numbers(values: Any) -> list[float]:
    """All scores in a result, in their order; labels of equal scores may change places."""
    if isinstance(values, dict):
        return [x for _, value in sorted(values.items()) for x in numbers(value)]
    if isinstance(values, list):
        return [x for value in values for x in numbers(value)]
    return [values] if isinstance(values, float) else []


def expect_close(found: Any, expected: Any, tolerance: float) -> None:
    scale = max([1.0, *map(abs, numbers(expected))])
    np.testing.assert_allclose(numbers(found), numbers(expected), atol=tolerance * scale, rtol=0)


def test_every_command_that_loads_a_model_has_these_options() -> None:
    found = {name.removeprefix("hf-ast "): leaf for name, leaf in _leaves("hf-ast", build_app())}
    options = {
        name: {option for parameter in leaf.params for option in parameter.opts} for name, leaf in found.items()
    }
    with_device = {name for name, own in options.items() if "--device" in own}
    assert with_device == {*RUN_MODELS, *WAITING}
    for name, (_, _, own, _) in COMMANDS.items():
        assert own <= options[name], name
    for name in WAITING:
        assert options[name] >= BATCHES


def build_app() -> Any:
    import typer

    return typer.main.get_command(build(ALL_COMMANDS, ""))


@pytest.mark.parametrize("name", RUN_MODELS)
def test_bfloat16_in_batches_of_two_gives_close_results(name: str, run: Runner) -> None:
    own = COMMANDS[name][2]
    options = ["--device", "cpu"]
    options += ["--dtype", "bfloat16"] if "--dtype" in own else []
    options += ["--batch-size", "2"] if "--batch-size" in own else []
    found = run(name, *options)
    assert not isinstance(found, tuple), found
    if found is not None and name != "evaluate":  # metrics of few recordings jump, or stay, when scores change
        expected = run.usual(name)
        expect_close(found, expected, TOLERANCE)
        assert (found == expected) == ("--dtype" not in own)


@pytest.mark.parametrize(
    ("names", "device", "problem"),
    [
        (RUN_MODELS, "cuda", "this machine has no CUDA device"),
        (["tag"], "meta", "no values"),
        (["tag"], "gpu", "not the name"),
    ],
)
def test_a_device_that_is_not_there_is_one_error(names: list[str], device: str, problem: str, run: Runner) -> None:
    if torch.cuda.is_available() and device == "cuda":
        device = f"cuda:{torch.cuda.device_count()}"
        problem = "counted from 0"
    for name in names:
        status, message = run(name, "--device", device)
        assert status == 2, name
        text = " ".join(message.replace("│", " ").split())
        assert "Invalid value for '--device'" in text
        assert f"device='{device}'" in text
        assert problem in text


def test_an_unknown_precision_is_one_error(run: Runner) -> None:
    status, message = run("classify", "--dtype", "float8")
    assert status == 2
    assert "'float8' is not one of 'float32', 'bfloat16', 'float16'" in " ".join(message.replace("│", " ").split())


@pytest.mark.parametrize("name", INFERENCE)
def test_model_and_front_end_run_on_the_device(name: str, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run.usual(name)
    with accelerator(monkeypatch) as seen:
        found = run(name)  # by default, on the accelerator
    assert not isinstance(found, tuple), found
    assert seen.on_cpu == set()
    assert seen.modules["KaldiFbank"] > 0
    if "--dtype" in COMMANDS[name][2]:
        assert seen.modules["SpectrogramEmbeddings"] > 0
    if found is not None:
        expect_close(found, expected, 1e-5)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    (tmp_path / "storage").mkdir()
    with serve(tmp_path / "storage") as hub:
        constants = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }
        for name, value in constants.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "export" else ()) for name in COMMANDS]
)
def test_revision_and_token_reach_the_hub(name: str, run: Runner, hub: LoopbackHub, models: dict[str, Path]) -> None:
    """Of a private repository, whose main branch has other weights than the commit that is asked for."""
    versions = ("ssast",) if name in ("pretrain", "plot reconstruction") else ("model", "newer")
    commit = upload(models, *versions)
    status, message = run(name, "--revision", commit)
    assert status == 1
    assert f"revision='{commit}' is for models on the Hub, but model=" in message
    hub.requests.clear()
    found = run(name, "--revision", commit, "--token", TOKEN, **{versions[0]: "me/model"})
    assert not isinstance(found, tuple), found
    asked = {request.split("/resolve/")[1].split("/")[0] for request in hub.requests if "/resolve/" in request}
    assert asked == {commit}
    if found is not None:
        assert numbers(found) == numbers(run.usual(name))  # of the folder with the older version


# One command for each function that loads
@pytest.mark.parametrize("name", ["classify", "embed", "plot reconstruction"])
def test_a_wrong_token_or_revision_is_one_error(
    name: str, run: Runner, hub: LoopbackHub, models: dict[str, Path]
) -> None:
    version = "ssast" if name == "plot reconstruction" else "model"
    commit = upload(models, version)
    status, message = run(name, "--revision", commit, **{version: "me/model"})
    assert status == 1
    assert "not a model on the Hub that you can access" in message
    status, message = run(name, "--revision", "v7", "--token", TOKEN, **{version: "me/model"})
    assert status == 1
    assert "revision='v7' is not a branch, tag or commit of that model" in message


def upload(models: dict[str, Path], *versions: str) -> str:
    """Commit models one after the other to a private repository; the first commit."""
    api = huggingface_hub.HfApi(token=TOKEN)
    api.create_repo("me/model", private=True)
    first, *_ = [api.upload_folder(repo_id="me/model", folder_path=models[version]).oid for version in versions]
    return first


def test_a_released_checkpoint_has_no_revisions(run: Runner) -> None:
    status, message = run("classify", "--revision", "main", model="passt_s_swa_p16_128_ap476")
    assert status == 1
    assert "revision='main' is for models on the Hub, but model='passt_s_swa_p16_128_ap476' is a released" in message


def test_a_model_goes_to_the_accelerator_only_when_asked_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    with accelerator(monkeypatch):
        assert hf_ast.load_classifier(EMBEDDED_MODEL)[0].device.type == "cpu"
        assert hf_ast.load_classifier(EMBEDDED_MODEL, device=None)[0].device.type == DEVICE.type
        assert hf_ast.load_encoder(EMBEDDED_MODEL, device=DEVICE)[0].device == DEVICE
