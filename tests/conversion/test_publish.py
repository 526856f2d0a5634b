"""A folder goes to the Hub and comes back: the real clients, and a Hub on loopback."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, ModelCard, get_session, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

import hf_ast.hub
from conversion.publish_all import main
from hf_ast.conversion import publish_all
from hf_ast.conversion.cards import write_card
from hf_ast.conversion.folders import convert_file, read_provenance
from hf_ast.conversion.publish import publish_folder
from hf_ast.conversion.registry import CHECKPOINTS, find
from hf_ast.conversion.verify import verify_folder
from hf_ast.hub import network_errors
from tests.conversion.test_verify import convert_tiny
from tests.support.converted import SPEECH_COMMANDS, SSAST, VERIFICATION, converted, tiny_ast, verified
from tests.support.interpreter import ROOT, run
from tests.support.loopback_hub import TOKEN, LoopbackHub
from tests.support.tiny import waveforms

REPO = "org/keywords"
LOAD = """
import json
import numpy as np
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline
{first}
extractor = AutoFeatureExtractor.from_pretrained("org/keywords"{arguments})
model = AutoModelForAudioClassification.from_pretrained("org/keywords"{arguments})
waveform = np.load("waveform.npy")
inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
np.save("logits.npy", model(**inputs).logits.detach().numpy())
labels = pipeline("audio-classification", model="org/keywords"{arguments})(waveform, top_k=3)
print(json.dumps([labels, "hf_ast" in sys.modules]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return verified(converted(SPEECH_COMMANDS, tmp_path_factory.mktemp("folder")))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_published_in_one_commit_and_downloads_byte_for_byte(
    folder: Path, hub: LoopbackHub, tmp_path: Path
) -> None:
    published = shutil.copytree(folder, tmp_path / "published")
    (published / ".hidden").mkdir()
    (published / ".hidden" / "notes.txt").write_text("mine")
    assert publish_folder(published, REPO) == f"{hub.url}/{REPO}"
    _, commit = hub.repositories[REPO].commits
    source = read_provenance(folder)["source"]
    assert commit.message == (
        f"speechcommands_10_10_0.9812.pth (sha256 {source['sha256']}), converted by hf_ast "
        f"{read_provenance(folder)['hf_ast']}"
    )
    assert [name for name, file in commit.files.items() if file.lfs] == ["model.safetensors"]
    shutil.rmtree(published / ".hidden")
    assert contents(Path(snapshot_download(REPO, cache_dir=tmp_path / "cache"))) == contents(published)
    assert f'model="{REPO}"' in (published / "README.md").read_text()


def test_publishing_again_makes_a_commit_only_of_what_changed(folder: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    published = shutil.copytree(folder, tmp_path / "published")
    publish_folder(published, REPO)
    publish_folder(published, REPO)
    _, first = hub.repositories[REPO].commits
    publish_folder(verified(published, tensors=dataclasses.replace(VERIFICATION.tensors, kept=40)), REPO)
    _, _, second = hub.repositories[REPO].commits
    changed = {name for name, file in second.files.items() if first.files[name] != file}
    assert changed == {"README.md", "conversion.json"}
    assert len([request for request in hub.requests if request.startswith("PUT")]) == 1


def test_a_silent_hub_is_an_error_and_the_next_call_publishes(
    folder: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = get_session().timeout
    monkeypatch.setattr(hf_ast.hub, "TIMEOUT", (0.2, 0.2, 0.2, 0.2))
    with hub.lock, pytest.raises(network_errors(), match="timed out"):
        publish_folder(folder, REPO)
    assert get_session().timeout == patience
    publish_folder(folder, REPO)
    assert set(hub.repositories[REPO].commits[-1].files) == set(contents(folder))


def test_what_the_hub_says_of_a_published_folder(folder: Path, hub: LoopbackHub) -> None:
    publish_folder(folder, REPO)
    info = HfApi().model_info(REPO)
    assert (info.pipeline_tag, info.library_name, info.private) == ("audio-classification", "transformers", False)
    assert info.card_data.license == "bsd-3-clause"
    assert info.card_data.base_model == "facebook/deit-base-distilled-patch16-384"
    (result,) = info.card_data.eval_results
    (metric,) = find(SPEECH_COMMANDS).metrics
    assert (result.metric_type, result.metric_value, result.source_url) == ("accuracy", 0.9812, metric.source)
    # from the header of the weights, which is read without the rest of the file
    (num_parameters,) = HfApi().get_safetensors_metadata(REPO).parameter_count.values()
    model = AutoModelForAudioClassification.from_pretrained(folder)
    assert num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert f"{num_parameters / 1e6:.1f} million parameters" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("verification", "message"),
    [
        (None, r"is not verified, .* run `hf-ast verify "),
        ({"problems": ("v.norm.bias differs",)}, r"failed its verification \(v\.norm\.bias differs\)"),
    ],
)
def test_a_folder_without_a_passed_verification_is_refused(
    verification: dict | None, message: str, hub: LoopbackHub, tmp_path: Path
) -> None:
    folder = converted(SPEECH_COMMANDS, tmp_path)
    if verification is not None:
        verified(folder, **verification)
    with pytest.raises(ValueError, match=message):
        publish_folder(folder, REPO)
    assert not hub.requests
    assert not (folder / "README.md").exists()


def flip_a_byte(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")


def swap_labels(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["3"], config["id2label"]["7"] = config["id2label"]["7"], config["id2label"]["3"]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (flip_a_byte, "model.safetensors"),
        (swap_labels, "config.json"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
        (lambda folder: (folder / "modeling_ast.py").write_text("import os"), "modeling_ast.py"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"other"), "pytorch_model.bin"),
    ],
)
def test_a_folder_with_another_file_than_the_verified_ones_is_refused(
    change: Callable[[Path], object], file: str, folder: Path, hub: LoopbackHub, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    change(changed)
    with pytest.raises(ValueError, match=rf"was changed after its conversion \({re.escape(file)}\)"):
        publish_folder(changed, REPO)
    assert not hub.requests


def test_converted_with_verify_and_then_other_labels_is_not_published(hub: LoopbackHub, tmp_path: Path) -> None:
    checkpoint, content = tiny_ast()
    torch.save(content, tmp_path / checkpoint.file_name)
    changes = dict(checkpoint.config) | {"num_mel_bins": 32, "max_length": 50}
    folder = convert_file(
        tmp_path / checkpoint.file_name, find(SPEECH_COMMANDS), tmp_path / "converted", changes=changes
    )
    assert verify_folder(folder, tmp_path / checkpoint.file_name).passed
    swap_labels(folder)
    with pytest.raises(ValueError, match=r"was changed after its conversion \(config\.json\)"):
        publish_folder(folder, REPO)
    assert not hub.requests


def test_a_private_repository_is_found_with_the_token_only(folder: Path, hub: LoopbackHub) -> None:
    publish_folder(folder, REPO, private=True)
    assert HfApi().model_info(REPO).private
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).model_info(REPO)


def test_without_a_token_nothing_is_published(folder: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HfHubHTTPError, match="401"):
        publish_folder(folder, REPO)
    assert not hub.repositories


def test_the_hub_on_loopback_refuses_a_card_that_the_hub_would_refuse(hub: LoopbackHub) -> None:
    ModelCard("---\nlicense: apache-2.0\n---\n").validate()
    with pytest.raises(ValueError, match="license 'BSD' is unknown"):
        ModelCard("---\nlicense: BSD\n---\n").validate()
    card = ModelCard("---\nlicense: apache-2.0\n---\n")
    card.data.datasets = ["not a dataset"]
    with pytest.raises(ValueError, match="not a dataset"):
        card.validate()


@pytest.mark.slow
@pytest.mark.parametrize("package", [True, False], ids=["with hf_ast", "by remote code"])
def test_a_published_model_opens_by_its_id_with_equal_logits(
    package: bool, folder: Path, hub: LoopbackHub, tmp_path: Path
) -> None:
    publish_folder(folder, REPO)
    waveform = waveforms(1, 8000)[0].numpy()
    np.save(tmp_path / "waveform.npy", waveform)
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "OMP_NUM_THREADS": "1",
        "PATH": "",
        "PYTHONPATH": str(ROOT),
    }
    if package:  # which also publishes once more, where HF_ENDPOINT says
        again = (
            f"from pathlib import Path; from hf_ast.conversion.publish import publish_folder as publish\n"
            f"assert publish(Path({str(folder)!r}), {REPO!r}) == {hub.url + '/' + REPO!r}\nimport hf_ast"
        )
        code = LOAD.format(first=again, arguments="")
    else:
        code = LOAD.format(first="", arguments=", trust_remote_code=True")
    printed = run(code, without=() if package else ("hf_ast",), env=environment, cwd=tmp_path)
    labels, imported = json.loads(printed.splitlines()[-1])
    assert imported == package
    assert len(hub.repositories[REPO].commits) == 2
    model = AutoModelForAudioClassification.from_pretrained(folder)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**extractor(waveform, sampling_rate=16000, return_tensors="pt")).logits
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), logits.numpy())
    best = logits[0].softmax(-1).topk(3)
    assert [entry["label"] for entry in labels] == [model.config.id2label[i] for i in best.indices.tolist()]
    np.testing.assert_allclose([entry["score"] for entry in labels], best.values.numpy(), rtol=1e-6)


def test_the_plan_refuses_what_licences_leave_unclear_by_name() -> None:
    esc50, unknown, none = (
        find("passt-s-s10-esc50-fold1-0.967"),
        dataclasses.replace(find(SSAST), license="CC-BY-ND-4.0"),
        dataclasses.replace(find(SSAST), license="", license_note="nobody says"),
    )
    assert "unclear, trained on ESC-50 (CC BY-NC 3.0" in publish_all.find_refusal(esc50)
    assert publish_all.find_refusal(unknown).startswith("CC-BY-ND-4.0 is not among the licences that permit it")
    assert publish_all.find_refusal(none) == "no licence is stated (nobody says)"
    with pytest.raises(ValueError, match=r"fold1-0\.967 is not uploaded: unclear"):
        publish_all.publish(publish_all.plan(esc50))
    refused = {name for name, checkpoint in CHECKPOINTS.items() if publish_all.find_refusal(checkpoint)}
    of_maest = {name for name, checkpoint in CHECKPOINTS.items() if checkpoint.family == "maest"}
    assert of_maest < refused
    assert "forbids commercial use" in publish_all.find_refusal(CHECKPOINTS[min(of_maest)])
    of_fpasst = {name for name, checkpoint in CHECKPOINTS.items() if checkpoint.family == "fpasst"}
    assert of_fpasst < refused
    assert "no licence is stated" in publish_all.find_refusal(CHECKPOINTS[min(of_fpasst)])
    refused -= of_maest | of_fpasst
    assert {name.split("-0.")[0].split("-")[-1] for name in refused} == {*(f"fold{n}" for n in range(1, 6)), "fsd50k"}


def test_without_being_told_to_nothing_of_the_zoo_is_sent_and_then_what_is_in_the_plan(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "converted").mkdir()
    folder = verified(converted(SSAST, tmp_path / "converted"))
    write_card(folder)
    (tmp_path / "converted" / find(SSAST).file_name).rename(tmp_path / find(SSAST).file_name)
    size_mb = (folder / "model.safetensors").stat().st_size / 1e6
    arguments = ["--cache", str(tmp_path), "--namespace", "org", "--search"]
    # fold3 is refused, the next one has no file in the cache, and the last one is ready
    for name, steps in (
        ("fold3", "REFUSED: unclear, trained on ESC-50"),
        ("ssast-small-patch", "download, convert, verify, upload"),
        (SSAST, "upload"),
    ):
        assert main([*arguments, name]) == 0
        header, row, summary, remark = capsys.readouterr().out.splitlines()
        assert header.split()[:3] == ["name", "repository", "MB"]
        assert re.split(r"  +", row)[4].startswith(steps)
        assert summary.startswith(f"{int('REFUSED' not in steps)} of 1 are uploaded")
        assert remark.startswith("Nothing was sent")
    assert not hub.requests
    # What is computed before the conversion is the size of the file, whose header takes a few kB
    assert publish_all.weight_bytes(find(SSAST)) / 1e6 == pytest.approx(size_mb, abs=0.05)
    with monkeypatch.context() as patch, hub.lock:
        patch.setattr(hf_ast.hub, "TIMEOUT", (0.2, 0.2, 0.2, 0.2))
        assert main([*arguments, SSAST, "--publish", "--private"]) == 1
    assert capsys.readouterr().err.startswith(f"{SSAST} failed: ")
    assert main([*arguments, SSAST, "--publish", "--private"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.url}/org/{SSAST}"
    assert hub.repositories[f"org/{SSAST}"].private
    assert f"org/{SSAST}" in (folder / "README.md").read_text()


def test_a_checkpoint_that_fails_is_reported_and_the_status_says_so(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main(["--cache", str(tmp_path), "--search", "ssast tiny", "--publish"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in errors] == [
        f"{name} failed" for name in ("ssast-tiny-patch-400", "ssast-tiny-frame-400")
    ]
    assert not hub.requests


def test_a_licence_that_forbids_commercial_use_is_not_published(tmp_path: Path) -> None:
    checkpoint = find("maest-5s-pw-129e")
    assert publish_all.find_refusal(checkpoint).startswith("CC-BY-NC-SA-4.0 forbids commercial use")
    folder, source = convert_tiny(checkpoint.name, tmp_path)
    assert verify_folder(folder, source).passed
    with pytest.raises(ValueError, match=r"is not published: CC-BY-NC-SA-4\.0 forbids commercial use"):
        publish_folder(folder, "someone/maest")
