"""`hf-ast info`: what is shown of folders, of released checkpoints, and of what is neither."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi

from hf_ast import HfASTForAudioClassification, load_classifier
from hf_ast.cli import main
from hf_ast.conversion.publish import publish_folder
from hf_ast.conversion.registry import CHECKPOINTS
from tests.conversion.test_verify import convert_tiny
from tests.support.loopback_hub import LoopbackHub
from tests.support.native import native_folder, native_maest

RATE = 16000


def shown(model: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["info", str(model), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_is_described_without_its_weights(
    model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, extractor = load_classifier(model_folder)
    monkeypatch.setattr(HfASTForAudioClassification, "from_pretrained", None)
    found = shown(model_folder, capsys)
    embeddings = model.backbone.embeddings
    with torch.no_grad():
        tokens, *_ = embeddings(torch.zeros(1, 50, 32))
    assert found["input"] == {
        "frames": 50, "mel_bins": 32, "patch": [8, 6], "strides": [6, 4], "grid": [5, 12], "tokens": tokens.shape[1],
    }  # fmt: skip
    assert found["window_s"] == extractor.max_samples / RATE
    assert found["front_end"]["class"] == "HfASTFeatureExtractor"
    for name in ("mean", "std", "sampling_rate", "num_mel_bins", "max_length", "do_normalize", "subtract_mean"):
        assert found["front_end"][name] == getattr(extractor, name)
    assert found["parameters"] == model.num_parameters()
    assert found["weights"]["dtypes"] == {"F32": model.num_parameters()}
    assert found["weights"]["bytes"] == (model_folder / "model.safetensors").stat().st_size
    assert found["labels"] == {"number": 5, "problem_type": None, "first": [f"LABEL_{index}" for index in range(5)]}
    assert found["epsilon"] == {"layers": 1e-6, "head": 1e-5, "source": "config.json"}
    assert (found["license"], found["provenance"]) == (None, None)


def test_folders_in_the_layout_of_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native_folder(tmp_path / "mine")
    found = shown(tmp_path / "mine", capsys)
    assert found["layout"] == "transformers' own AST"
    assert found["epsilon"] == {"layers": 1e-12, "head": 1e-12, "source": "config.json"}
    official = tmp_path / "models--MIT--ast-finetuned-audioset-10-10-0.4593" / "snapshots" / "0123"
    native_folder(official)
    epsilon = shown(official, capsys)["epsilon"]
    assert (epsilon["layers"], epsilon["head"]) == (1e-6, 1e-5)
    assert epsilon["source"].startswith("the official values, with which MIT/ast-finetuned-audioset-10-10-0.4593 was")
    native_maest(tmp_path / "maest")
    found = shown(tmp_path / "maest", capsys)
    assert found["family"].startswith("MAEST")
    assert (found["input"]["grid"], found["window_s"]) == ([9, 31], 5.04)
    assert found["front_end"]["hop_length"] == 256


def test_a_conversion_shows_what_was_proved_and_what_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, source = convert_tiny("ast-base-s16-audioset-0.4422", tmp_path)
    assert main(["info", str(folder)]) == 0
    assert "nothing: `hf-ast verify` compares it with the official file" in capsys.readouterr().out
    assert main(["verify", str(folder), "--source", str(source)]) == 0
    capsys.readouterr()
    found = shown(folder, capsys)
    assert found["provenance"]["checkpoint"] == "ast-base-s16-audioset-0.4422"
    assert found["provenance"]["verification"]["passed"]
    assert main(["info", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "all tensors, and a forward pass" in out
    assumed = next(line for line in out.splitlines() if line.startswith("assumed"))
    assert "hidden_act=gelu" in assumed
    assert "mean=-4.2677393" in assumed
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    assert shown(folder, capsys)["changed"] == ["config.json"]
    assert main(["info", str(folder)]) == 0
    assert "nothing: changed since the conversion: config.json" in capsys.readouterr().out
    (folder / "conversion.json").write_text("{}")
    assert main(["info", str(folder)]) == 1
    assert "conversion.json' is damaged" in capsys.readouterr().err


def test_a_model_on_the_hub_is_described_as_its_folder(
    hub: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, source = convert_tiny("ast-base-s16-audioset-0.4422", tmp_path)
    assert main(["verify", str(folder), "--source", str(source)]) == 0
    publish_folder(folder, "me/published")
    first = hub.repositories["me/published"].commits[-1].oid
    capsys.readouterr()
    of_folder, of_hub = shown(folder, capsys), shown("me/published", capsys)
    assert (of_folder.pop("changed"), of_hub.pop("changed")) == ([], None)
    for described in (of_folder, of_hub):
        described.pop("model")
        described["weights"].pop("bytes")  # of the file, and of the tensors in it
    assert of_hub == of_folder
    assert of_hub["license"] == "bsd-3-clause"
    assert of_hub["provenance"]["verification"]["passed"]
    assert not any("model.safetensors" in str(path) for path in (tmp_path / "hub").rglob("*"))
    # The licence and the record are those of the revision, as is the rest
    record = json.loads((folder / "conversion.json").read_text()) | {"verification": None}
    for name, content in (("README.md", b"None."), ("conversion.json", json.dumps(record).encode())):
        HfApi().upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="me/published")
    found = shown("me/published", capsys)
    assert (found["license"], found["provenance"]) == (None, record)
    assert main(["info", "me/published", "--revision", first]) == 0
    out = capsys.readouterr().out
    assert "bsd-3-clause" in out
    assert "all tensors, and a forward pass (by its record; the files were not compared with it)" in out
    for name in ("passt_s_swa_p16_128_ap476", "mtg-upf/discogs-maest-30s-pw-129e"):
        assert main(["info", name, "--revision", "v1"]) == 1
        assert "revision='v1'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["maest-30s-pw-129e", "ssast-tiny-patch-400", "passt_s_swa_p16_128_ap476"])
def test_a_released_checkpoint_is_described_before_it_is_downloaded(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found = shown(name, capsys)
    checkpoint = CHECKPOINTS[found["provenance"]["checkpoint"]]
    assert name in (checkpoint.name, *checkpoint.aliases)
    assert found["license"] == checkpoint.license
    assert found["labels"]["number"] == (checkpoint.build_config().num_labels if checkpoint.label_set else 0)
    assert found["memory_bytes"] == 4 * found["parameters"] > 10**7
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_of_ours_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    assert main(["info", str(tmp_path)]) == 1
    assert "is a wav2vec2, but must be an AST, SSAST, PaSST or MAEST" in capsys.readouterr().err
    native_folder(tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"cut")
    assert main(["info", str(tmp_path / "damaged")]) == 1
    assert "model.safetensors' is damaged" in capsys.readouterr().err
