"""Model cards: true, valid for the Hub, and their snippets run."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard, ModelCardData, metadata_load
from huggingface_hub.utils import validate_repo_id

from hf_ast.conversion.cards import DATASETS, model_card, render_card, write_card
from hf_ast.conversion.checkpoint import Checkpoint
from hf_ast.conversion.folders import read_provenance
from hf_ast.conversion.registry import CHECKPOINTS
from tests.support.converted import DEIT, OPENMIC, SPEECH_COMMANDS, SSAST, VERIFICATION, converted, verified
from tests.support.interpreter import ROOT, run
from tests.support.loopback_hub import LICENSES
from tests.support.official_files import MODEL_CLASSES

FOLDERS = (SPEECH_COMMANDS, OPENMIC, SSAST, DEIT)
# Every block in a namespace of its own, as if it were a script
RUN_BLOCKS = """
import json
import os
for folder, block in json.load(open("blocks.json")):
    os.chdir(folder)
    print("Running in", folder, block, sep="\\n", file=sys.stderr)
    exec(block, {})
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: converted(name, tmp_path_factory.mktemp("folders")) for name in FOLDERS}


def provenance(checkpoint: Checkpoint, **changes: Any) -> dict[str, Any]:
    source = {
        "file": checkpoint.file_name,
        "url": checkpoint.urls[0],
        "sha256": checkpoint.sha256.ljust(64, "0"),
        "num_bytes": 12,
    }
    return {"checkpoint": checkpoint.name, "changes": {}, "hf_ast": "0.1.0", "source": source | changes}


def card_of(checkpoint: Checkpoint, **changes: Any) -> ModelCard:
    config = checkpoint.build_config()
    config.architectures = [MODEL_CLASSES[checkpoint.family][checkpoint.label_set is None].__name__]
    extractor = checkpoint.build_feature_extractor()
    origin = provenance(checkpoint, **changes) | {"verification": VERIFICATION.to_json()}
    return model_card(checkpoint, origin, config, extractor, num_parameters=10**6, repo_id=checkpoint.hub_id)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_the_metadata_of_every_checkpoint_is_valid_for_the_hub(checkpoint: Checkpoint, tmp_path: Path) -> None:
    card = card_of(checkpoint)
    card.save(tmp_path / "README.md")
    values = metadata_load(tmp_path / "README.md")
    assert values == card.data.to_dict()
    data = ModelCardData(**values)
    assert data.to_dict() == values
    assert (data.library_name, data.license in LICENSES | {"unknown"}, data.language) == ("transformers", True, None)
    for repo_id in (*(data.datasets or ()), *([data.base_model] if data.base_model else ())):
        validate_repo_id(repo_id)
    expected = [(metric.name, metric.value, metric.source) for metric in checkpoint.metrics]
    if checkpoint.label_set is None:
        assert (data.pipeline_tag, data.eval_results, data.base_model) == ("feature-extraction", None, None)
    else:
        assert data.pipeline_tag == "audio-classification"
        assert values.get("base_model_relation") == ("finetune" if checkpoint.datasets[0] == "ImageNet-1k" else None)
        found = [(result.metric_type, result.metric_value, result.source_url) for result in data.eval_results or ()]
        assert found == (expected if checkpoint.datasets[-1] in DATASETS else [])
    for name, value, source in expected:
        assert f"- {name} {value} on " in card.text
        assert f"({source})" in card.text
    for dataset in checkpoint.datasets:
        assert dataset in card.text
    facts = (checkpoint.title, checkpoint.license_note, checkpoint.file_name, *checkpoint.remarks)
    assert all(text in card.text for text in facts)
    assert (data.license == "unknown") == (not checkpoint.license)
    # What the template did not know would be empty
    assert not re.search(r"\n{3,}|\{[{%]|\bNone\b|(?<!`)``(?!`)", card.text.partition("## Citation")[0])


def test_datasets_that_the_hub_does_not_have_are_the_known_ones() -> None:
    named = {dataset for checkpoint in CHECKPOINTS.values() for dataset in checkpoint.datasets}
    assert named - DATASETS.keys() == {"AudioSet Strong", "Discogs20", "OpenMIC-2018"}
    assert DATASETS.keys() <= named


def test_a_file_that_is_not_the_released_one_gets_no_claim_of_the_release() -> None:
    checkpoint = CHECKPOINTS[SPEECH_COMMANDS]
    for card in (
        card_of(checkpoint, file="mine.pth", url=None),
        card_of(CHECKPOINTS[DEIT], sha256="f" * 64),
    ):
        values = card.data.to_dict()
        assert values.keys() == {"library_name", "pipeline_tag", "tags"}
        assert "which is not the released file" in card.text
        assert "Licence" not in card.text
        assert "0.9812 on" not in card.text


def test_a_changed_conversion_of_the_released_file_claims_no_result() -> None:
    checkpoint = CHECKPOINTS[SPEECH_COMMANDS]
    config = checkpoint.build_config(pooling="cls")
    config.architectures = ["HfASTForAudioClassification"]
    origin = provenance(checkpoint) | {"changes": {"pooling": "cls", "id2label": {"0": "yes"}}}
    card = model_card(
        checkpoint, origin, config, checkpoint.build_feature_extractor(), num_parameters=1, repo_id="me/mine"
    )
    assert "| changed from `ast-base-s10-speech-commands-0.9812` | `pooling` = cls; `id2label` |" in card.text
    assert "No published result is known with these changes." in card.text
    assert card.data.eval_results is None
    assert card.data.license == "bsd-3-clause"


def test_the_card_of_a_folder_says_what_it_is_and_where_it_comes_from(folders: dict[str, Path]) -> None:
    folder = folders[SPEECH_COMMANDS]
    text = render_card(folder)
    source = read_provenance(folder)["source"]
    for fact in (
        "# AST base, stride 10, Speech Commands V2, 35 words",
        "8 mel bins x 6 frames, every 6 mel bins and 4 frames: 5 x 12",
        "35 classes, exactly one of which applies (softmax)",
        "mono at 16000 Hz, up to 0.515 s",
        f"| sha256 | `{source['sha256']}` |",
        f"| file | `speechcommands_10_10_0.9812.pth`, {source['num_bytes']} bytes |",
        "[MIT/ast-finetuned-speech-commands-v2](https://huggingface.co/MIT/ast-finetuned-speech-commands-v2)",
        "Not verified yet. `hf-ast verify DIR --source FILE`",
        "@inproceedings{gong2021ast,",
    ):
        assert fact in text


def test_the_card_of_a_verified_folder_accounts_for_every_tensor(tmp_path: Path) -> None:
    folder = converted(SPEECH_COMMANDS, tmp_path)
    text = render_card(verified(folder))
    for fact in (
        "Verified against that file by `hf-ast verify` (torch 2.13.0, transformers 5.23.0",
        "- kept bit for bit: 41 tensors\n",
        "- derived (split into prefix and patch positions): `v.pos_embed`\n",
        "- dropped (ImageNet classes, never used): `v.head.weight`, `v.head.bias`\n",
        "`logits` of shape [2, 35]: largest difference 3.8e-06 from an independent",
        "0.0012 from transformers' own `ASTForAudioClassification` with the same tensors and epsilons\n",
    ):
        assert fact in text
    failed = render_card(verified(folder, problems=("v.norm.bias differs",), forward=None))
    assert "**The verification failed**" in failed
    assert "- problem: v.norm.bias differs\n" in failed
    assert "forward pass" not in failed


def test_writing_a_card_twice_writes_the_same_bytes(folders: dict[str, Path]) -> None:
    path = write_card(folders[SSAST], "me/my-ssast")
    first = path.read_bytes()
    assert write_card(folders[SSAST], "me/my-ssast").read_bytes() == first
    assert b'from_pretrained("me/my-ssast")' in first


def test_a_folder_that_no_conversion_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no conversion\.json: `hf-ast convert` makes one"):
        render_card(tmp_path)


SOURCE = {"file": "a.pth", "sha256": "00", "url": None}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"{", "it is not JSON"),
        ([], "does not name a checkpoint"),
        ({"source": SOURCE}, "does not name a checkpoint"),
        ({"checkpoint": 7, "source": SOURCE}, "does not name a checkpoint"),
        ({"checkpoint": "x"}, "the file, url and sha256"),
        ({"checkpoint": "x", "source": {"file": "a.pth", "sha256": "00"}}, "the file, url and sha256"),
        ({"checkpoint": "x", "source": SOURCE | {"sha256": None}}, "the file, url and sha256"),
    ],
)
def test_a_damaged_record_of_a_conversion_is_an_error(record: Any, message: str, tmp_path: Path) -> None:
    content = record if isinstance(record, bytes) else json.dumps(record).encode()
    (tmp_path / "conversion.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"conversion\.json' is damaged.*{message}"):
        render_card(tmp_path)


def run_blocks(folders: dict[str, Path], path: Path, *, without: tuple[str, ...] = ()) -> str:
    """Run the Python of all cards, that which needs `hf_ast` or that which does not; what it prints."""
    blocks = []
    for name, folder in folders.items():
        extractor = json.loads((folder / "preprocessor_config.json").read_text())
        # Half a second fits into every model: of longer recordings, the package scores all, the remote code the start
        noise = 0.1 * np.random.default_rng(0).standard_normal(extractor["sampling_rate"] // 2)
        (path / name).mkdir()
        soundfile.write(path / name / "recording.wav", noise, extractor["sampling_rate"])
        for block in re.findall(r"```python\n(.*?)```", render_card(folder, "org/name"), flags=re.DOTALL):
            if ("trust_remote_code" in block) == bool(without):
                assert "org/name" in block
                blocks.append((str(path / name), block.replace("org/name", str(folder))))
    (path / "blocks.json").write_text(json.dumps(blocks))
    assert len(blocks) == (3 if without else 13)
    environment = {"HF_HOME": str(path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""}
    environment["PYTHONPATH"] = str(ROOT)  # this checkout, not another one that may be installed
    return run(RUN_BLOCKS, without=without, cwd=path, env=environment)


@pytest.mark.slow
def test_the_snippets_of_the_cards_run(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "remote").mkdir()
    with_package = run_blocks(folders, tmp_path / "package").splitlines()
    without_package = run_blocks(folders, tmp_path / "remote", without=("hf_ast",)).splitlines()
    pipelines = [line for line in with_package if "'score'" in line]
    assert len(pipelines) == 2
    assert [line for line in without_package if "'score'" in line] == pipelines
    assert "torch.Size([1, 514, 192]) torch.Size([1, 192])" in with_package
