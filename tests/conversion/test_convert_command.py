"""The commands for checkpoints: what they print, write and refuse."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

from hf_ast.cli import main
from hf_ast.cli.checkpoints import Family
from hf_ast.conversion import downloads, registry
from hf_ast.conversion.folders import read_provenance, sha256
from hf_ast.families import BY_NAME
from tests.support.converted import narrow, write_narrow_file
from tests.support.file_server import Served, Server, serving
from tests.support.official_files import tiny_ast_content, tiny_ast_outputs
from tests.support.tiny import GEOMETRY, SIZE, spectrograms

NAME = "ssast-tiny-patch-400"
LABELS = ["dog", "rain", "sea waves", "baby", "clock"]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_file(tmp_path_factory.mktemp("official"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and digests of its own, and a registry with narrow models in the place of tiny ones."""
    small = {name: narrow(name) for name in (NAME, "ssast-tiny-frame-400")}
    for table in ("CHECKPOINTS", "ALIASES"):
        known = getattr(registry, table)
        monkeypatch.setattr(registry, table, {alias: small.get(entry.name, entry) for alias, entry in known.items()})
    monkeypatch.setattr(downloads, "default_cache", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def replace_urls(monkeypatch: pytest.MonkeyPatch, urls: dict[str, str]) -> None:
    """Make the registry say that the files are on a server here, and that there are no others."""
    checkpoints = {name: dataclasses.replace(registry.find(name), urls=(url,)) for name, url in urls.items()}
    monkeypatch.setattr(registry, "CHECKPOINTS", checkpoints)
    monkeypatch.setattr(registry, "ALIASES", checkpoints)


def test_checkpoints_prints_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(registry.CHECKPOINTS)
    assert main(["checkpoints", "--family", "passt", "FSD50K", "overlap"]) == 0
    output = capsys.readouterr()
    assert [line.split()[0] for line in output.out.splitlines()] == ["name", "passt-s-n-s16-fsd50k-0.642"]
    assert output.err == ""
    assert main(["checkpoints", "FSD50K-N", "--details"]) == 0
    assert capsys.readouterr().out.startswith("name         passt-s-n-s16-fsd50k-0.642\n")


def test_families_to_choose_from_are_those_of_the_registry() -> None:
    families = {checkpoint.family for checkpoint in registry.CHECKPOINTS.values()}
    assert {family.value for family in Family} == BY_NAME.keys() == families


def test_a_name_is_one_checkpoint_and_words_are_several(capsys: pytest.CaptureFixture[str]) -> None:
    def names(*arguments: str) -> list[str]:
        assert main(["checkpoints", *arguments, "--json"]) == 0
        return [checkpoint["name"] for checkpoint in json.loads(capsys.readouterr().out)]

    assert names("passt_s_swa_p16_128_ap476") == ["passt-s-s10-audioset-0.476-swa"]  # a part of other names
    assert names(NAME, "--family", "ssast") == [NAME]
    assert len(names("ssast", "frame")) > 1
    assert main(["checkpoints", NAME, "--json"]) == 0
    (data,) = json.loads(capsys.readouterr().out)
    assert data["file_name"] == "SSAST-Tiny-Patch-400.pth"
    assert data["config"]["hidden_size"] == 192
    assert data["metrics"][0]["value"] == registry.find(NAME).metrics[0].value


def test_an_official_file_is_known_by_its_name(
    official: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(official)]) == 0
    output = capsys.readouterr()
    assert output.out == f"{NAME}\n"
    assert output.err.splitlines()[-2:] == [
        f"next: hf-ast verify {NAME} --source {official}",
        f"next: hf-ast publish {NAME} --repo ID",
    ]
    assert read_provenance(elsewhere / NAME)["source"]["url"] is None
    assert AutoModel.from_pretrained(elsewhere / NAME).config.hidden_size == 64
    assert AutoFeatureExtractor.from_pretrained(elsewhere / NAME).max_length == 1024
    assert (elsewhere / NAME / "README.md").read_text().startswith("---\n")


def test_the_same_command_again_writes_nothing(official: Path, elsewhere: Path) -> None:
    arguments = ["convert", str(official), "--out", "model"]
    assert main(arguments) == 0
    before = {path: path.stat().st_mtime_ns for path in (elsewhere / "model").iterdir()}
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in (elsewhere / "model").iterdir()} == before


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(LABELS) + "\n",
        json.dumps(LABELS),
        json.dumps({str(number): name for number, name in reversed(list(enumerate(LABELS)))}),
        json.dumps({name: number for number, name in enumerate(LABELS)}),
    ],
)
def test_a_fine_tuned_file_is_converted_with_what_it_changes(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    torch.save(tiny_ast_content(), "best_audio_model.pth")
    Path("labels.txt").write_text(content)
    settings = SIZE | GEOMETRY | {"mean": -6.6, "problem_type": "single_label_classification"}
    arguments = [
        f"--set={name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()
    ]
    like = ["--as", "MIT/ast-finetuned-audioset-10-10-0.4593", "--labels", "labels.txt", "--out", "mine", "--verify"]
    assert main(["convert", "best_audio_model.pth", *like, *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "mine"
    loaded = AutoModelForAudioClassification.from_pretrained("mine")
    expected = tiny_ast_outputs(spectrograms(2, 50))["logits"]
    torch.testing.assert_close(loaded(spectrograms(2, 50)).logits, expected, atol=1e-5, rtol=1e-5)
    assert list(loaded.config.id2label.values()) == LABELS
    assert loaded.config.label2id["clock"] == 4
    assert loaded.config.problem_type == "single_label_classification"
    assert AutoFeatureExtractor.from_pretrained("mine").mean == -6.6
    assert read_provenance(elsewhere / "mine")["verification"]["passed"]


def test_a_checkpoint_is_downloaded_once_and_then_works_offline(
    official: Path,
    server: Server,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.served[official.name] = Served(official.read_bytes(), answers=[("cut", 10**6)])
    url = server.url(official.name)
    replace_urls(monkeypatch, {NAME: url})
    assert main(["convert", NAME, "--cache", "cache"]) == 0
    source = read_provenance(elsewhere / NAME)["source"]
    assert (source["url"], source["sha256"]) == (url, sha256(official))
    assert json.loads((elsewhere / "cache" / "checksums.json").read_text()) == {official.name: sha256(official)}
    server.served.clear()
    capsys.readouterr()
    assert main(["verify", NAME, "--cache", "cache", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["folder"], report["source"]) == (NAME, f"cache/{official.name}")
    found = report["tensors"]
    num_tensors = found["kept"] + len(found["derived"]) + len(found["dropped"])
    assert (report["passed"], num_tensors) == (True, len(torch.load(official, weights_only=True)))
    assert main(["convert", NAME, "--cache", "cache", "--out", "again", "--json"]) == 0
    provenance = read_provenance(elsewhere / "again")
    assert json.loads(capsys.readouterr().out) == {
        "name": NAME, "folder": "again", "source": f"cache/{official.name}", "url": url, "verification": None,
        "unwrapped": provenance["unwrapped"], "assumed": provenance["assumed"],
    }  # fmt: skip
    assert provenance["unwrapped"]["containers"] == ["module"]
    assert provenance["source"] == source


def test_convert_all_goes_on_after_a_failure_with_one_line_each(
    official: Path,
    server: Server,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.served[official.name] = Served(official.read_bytes())
    server.served["other.pth"] = Served(official.read_bytes())
    urls = {"ssast-base-frame-400": "gone.pth", "ssast-tiny-frame-400": "other.pth", NAME: official.name}
    replace_urls(monkeypatch, {name: server.url(file) for name, file in urls.items()} | {"openmic": "unused"})
    arguments = ["convert", "--all", "--family", "ssast", "--out", "zoo", "--cache", "cache"]
    assert main(arguments) == 1
    output = capsys.readouterr()
    rows = [line.split(maxsplit=3) for line in output.out.splitlines()]
    assert rows[0][::3] == ["ssast-base-frame-400", "failed: gone.pth cannot be downloaded:"]
    assert rows[1][0] == "ssast-tiny-frame-400"
    assert "has shape (64, 1, 16, 16), the config describes (64, 1, 128, 2)" in rows[1][3]
    assert rows[2][::3] == [NAME, "verified"]
    assert float(rows[2][2]) < 1e-4
    assert f"{server.url('gone.pth')}: HTTP 404" in output.err
    assert sorted(path.name for path in (elsewhere / "zoo").iterdir()) == [NAME]
    assert read_provenance(elsewhere / "zoo" / NAME)["verification"]["passed"]
    assert (elsewhere / "zoo" / NAME / "README.md").is_file()
    assert main([*arguments, "--json"]) == 1
    missing, other, verified = json.loads(capsys.readouterr().out)
    assert missing["name"] == "ssast-base-frame-400"
    assert "gone.pth cannot be downloaded" in missing["error"]
    assert "has shape" in other["error"]
    assert (verified["folder"], verified["verification"]["passed"]) == (f"zoo/{NAME}", True)


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that fails."""
    capsys.readouterr()
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("checkpoints nothing like it", "No checkpoint has 'nothing like it' in its names or its title"),
        (
            "checkpoints ssast-tiny-pach-400",
            "has 'ssast-tiny-pach-400' in its names or its title (close: ssast-tiny-p",
        ),
        ("convert nowhere.pth", "'nowhere.pth' is not a file. No checkpoint is called 'nowhere.pth'"),
        ("convert FILE --set hiden_size=3", "changes has 'hiden_size', which is not a field of SSASTConfig or"),
        ("convert FILE --set hidden_size", "--set hidden_size must be FIELD=VALUE"),
        ("convert FILE --set hidden_size=wide", "expected int, got str"),
        ("convert FILE --as ssast-tiny-frame-400", "has shape (64, 1, 16, 16), the config describes"),
        ("convert FILE --labels missing.txt", "No such file or directory: 'missing.txt'"),
        ("convert FILE --out taken", "out='taken' exists and was not made by a conversion; give another folder"),
        (f"convert {NAME} --as openmic", f"--as is for files, and '{NAME}' is not a file"),
        ("verify taken", "has no conversion.json"),
        ("card taken", "has no conversion.json"),
        ("publish taken --repo me/it", "has no conversion.json"),
        ("export-official taken --out x.pth", "taken"),
    ],
)
def test_a_mistake_is_one_line_and_makes_nothing(
    official: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    Path("taken").mkdir()
    assert message in error_of(arguments.replace("FILE", str(official)).split(), capsys)
    assert list(elsewhere.iterdir()) == [elsewhere / "taken"]
    assert list((elsewhere / "taken").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog\ncat\ndog", "'dog' is empty, not text, or used twice"),
        ("dog\n\ncat", "'' is empty, not text, or used twice"),
        ('["dog", 3]', "3 is empty, not text, or used twice"),
        ('{"0": "dog", "2": "cat"}', "numbered 0 to 1, each number once"),
        ('{"first": "dog"}', "must be numbered"),
        ('{"dog": ', "Expecting value"),
        ("", "must be names"),
    ],
)
def test_labels_that_are_none_are_an_error(
    official: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    Path("labels.txt").write_text(content)
    line = error_of(["convert", str(official), "--labels", "labels.txt"], capsys)
    assert message in line
    assert "labels='labels.txt'" in line


def test_a_file_of_an_official_name_must_have_the_known_digest(
    official: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "checksums.json").write_text(json.dumps({official.name: "7" * 64}))
    line = error_of(["convert", str(official)], capsys)
    assert f"sha256 is {sha256(official)}, but 7777" in line
    assert f"If it is meant to differ, use --as {NAME}" in line
    assert not (elsewhere / NAME).exists()
    assert main(["convert", str(official), "--as", NAME]) == 0


def test_a_renamed_file_needs_to_be_told_what_it_is(
    official: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed = elsewhere / "download (1).pth"
    renamed.symlink_to(official)
    assert f"Use --as to say what '{renamed}' is, or resembles" in error_of(["convert", str(renamed)], capsys)
    assert main(["convert", str(renamed), "--as", "SSAST-Tiny-Patch-400"]) == 0


def test_verify_finds_another_source_and_publish_refuses_it(
    official: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["convert", str(official), "--out", "model"])
    assert "SSAST-Tiny-Patch-400.pth is not in the cache" in error_of(["verify", "model", "--cache", "none"], capsys)
    assert "is not verified" in error_of(["publish", "model", "--repo", "me/it"], capsys)
    tensors = torch.load(official, weights_only=True)
    tensors["module.v.norm.bias"] = tensors["module.v.norm.bias"] + 1
    torch.save(tensors, "other.pth")
    assert "'v.norm.bias' differs" in error_of(["verify", "model", "--source", "other.pth"], capsys)
    assert not read_provenance(elsewhere / "model")["verification"]["passed"]
    assert "failed its verification" in error_of(["publish", "model", "--repo", "me/it"], capsys)
    assert main(["verify", "model", "--source", str(official)]) == 0
    assert capsys.readouterr().out.startswith("verified\n")


def test_card_and_export_print_what_they_wrote(
    official: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["convert", str(official), "--out", "model"])
    (elsewhere / "model" / "README.md").unlink()
    capsys.readouterr()
    assert main(["card", "model"]) == 0
    assert capsys.readouterr().out == "model/README.md\n"
    assert (elsewhere / "model" / "README.md").is_file()
    assert main(["export-official", "model", "--out", "back.pth", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["out"], result["layout"]) == ("back.pth", "official")
    exported, expected = (torch.load(file, weights_only=True) for file in ("back.pth", official))
    assert exported.keys() == expected.keys()
    for name, tensor in expected.items():
        wanted = torch.zeros_like(tensor) if name in result["zeros"] else tensor
        torch.testing.assert_close(exported[name], wanted, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "Usage: hf-ast"),
        ("convert", "Give either a checkpoint or --all"),
        ("convert a.pth --all", "Give either a checkpoint or --all"),
        ("convert a.pth --family ssast", "--family can only be used with --all"),
        ("convert --all --set max_length=3", "are for one file"),
        ("checkpoints --family vit", "'vit' is not one of"),
    ],
)
def test_wrong_arguments_show_how_it_is_used(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    assert main(arguments.split()) == 2
    output = capsys.readouterr()
    assert message in output.err + output.out * (not arguments)
