"""What is under its final name must be whole.

Each function gets the output of a trial and that of a run without a fault, raises an exception if something is
partial, and returns whether all is done.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from matplotlib.image import imread
from transformers import AutoConfig

import hf_ast
from hf_ast.conversion.downloads import CHECKSUMS
from hf_ast.conversion.folders import changed_files, read_provenance
from hf_ast.conversion.prepare import is_ready
from hf_ast.conversion.verification import read_verification
from hf_ast.inference.corpus.plan import read_plan
from hf_ast.inference.loading import load_pretraining
from tests.support.converted import SPEECH_COMMANDS

from .program import register_tiny

# A training writes them after its model
AFTER_MODEL = {"metrics.json", "results.png", "README.md"}


def download(out: Path, reference: Path) -> bool:
    """The file has its name once it has all bytes."""
    (expected,) = reference.glob("*.pth")
    file = out / expected.name
    if (out / CHECKSUMS).exists():
        assert (out / CHECKSUMS).read_bytes() == (reference / CHECKSUMS).read_bytes()
    if file.exists():
        assert file.read_bytes() == expected.read_bytes()
    return file.exists()


def checkpoint(out: Path, reference: Path) -> bool:
    """The converted folder opens, and is the one of the whole run once it counts as ready."""
    folder = out / "converted" / SPEECH_COMMANDS
    download(out, reference)
    if folder.exists():
        converted(folder, reference)
    url = json.loads(next(reference.glob("*.pth.json")).read_text())["url"]
    return is_ready(folder, register_tiny(url), cache=out)


def converted(out: Path, reference: Path) -> bool:
    assert not changed_files(out, read_provenance(out))
    open_model(out)
    return True


def verified(out: Path, reference: Path) -> bool:
    provenance = read_provenance(out)
    assert not changed_files(out, provenance)
    verification = read_verification(provenance)
    assert verification is None or verification.passed
    return verification is not None


def card(out: Path, reference: Path) -> bool:
    """The card is as long and ends as that of the whole run, or there is none."""
    file = out / "README.md"
    if file.exists():
        text, expected = (path.read_text(encoding="utf-8").rstrip() for path in (file, reference / "README.md"))
        assert len(text) > 0.9 * len(expected), "a cut card"
        assert text.endswith(expected[-200:]), "a cut card"
    return file.exists()


def published(out: Path, reference: Path) -> bool:
    """The folder is as before but for its card; the repository holds nothing, or all of the folder."""
    verified(out, reference)
    card(out, reference)
    repo_id = repository_of(out)
    try:
        if not HfApi().model_info(repo_id).siblings:
            return False
    except RepositoryNotFoundError:
        return False
    with tempfile.TemporaryDirectory() as folder:
        found = Path(snapshot_download(repo_id, cache_dir=folder))
        assert contents(found) == contents(out)
    return True


def repository_of(out: Path) -> str:
    """A repository for every trial; names on the Hub are ASCII."""
    return "org/" + out.parent.name.encode("ascii", "ignore").decode()


def exported(out: Path, reference: Path) -> bool:
    assert {path.name for path in out.iterdir()} == {path.name for path in reference.iterdir()}
    json.loads((out / "metadata.json").read_text(encoding="utf-8"))
    torch.export.load(next(out.glob("*.pt2")))
    return True


def arrays(out: Path, reference: Path) -> bool:
    """All rows, or after Ctrl-C those of the recordings that were finished."""
    with np.load(out) as found, np.load(reference) as expected:
        assert set(found["path"]) <= set(expected["path"])
        rows = np.isin(expected["path"], found["path"])
        np.testing.assert_allclose(found["embedding"], expected["embedding"][rows], atol=1e-5)
    return True


def picture(out: Path, reference: Path) -> bool:
    np.testing.assert_array_equal(imread(out), imread(reference))
    return True


def corpus(out: Path, reference: Path) -> bool:
    """Every shard that is there has all of its rows."""
    import pyarrow.parquet as pq

    if (out / "plan.parquet").exists():
        read_plan(out)
    shards = sorted(path.name for path in (reference / "data").iterdir())
    found = sorted(path.name for path in (out / "data").iterdir()) if (out / "data").exists() else []
    assert set(found) <= set(shards)
    for name in found:
        table, expected = (pq.read_table(folder / "data" / name).to_pandas() for folder in (out, reference))
        assert table.path.tolist() == expected.path.tolist()
        np.testing.assert_allclose(np.stack(table.embedding), np.stack(expected.embedding), atol=1e-5)
    return found == shards


def finetuned(out: Path, reference: Path) -> bool:
    trained(out, reference)
    if (out / "README.md").exists():
        card(out, reference)
        assert (out / "config.json").exists()
    return (out / "README.md").exists()


def trained(out: Path, reference: Path) -> bool:
    """A model that opens is the one of the whole run; what describes it is whole."""
    for name in ("training.json", "metrics.json"):
        if (out / name).exists():
            json.loads((out / name).read_text(encoding="utf-8"))
    if (out / "results.png").exists():
        imread(out / "results.png")
    if not (out / "config.json").exists():
        return False
    missing = {path.name for path in reference.iterdir()} - {path.name for path in out.iterdir()}
    assert missing <= AFTER_MODEL, f"a model without {sorted(missing)}"
    expected = open_model(reference)
    for name, tensor in open_model(out).items():
        # A resumed training sums in the same order, but sees other threads and other machines
        torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-3)
    return True


def open_model(folder: Path) -> dict[str, torch.Tensor]:
    architecture = AutoConfig.from_pretrained(folder).architectures[0]
    load = load_pretraining if "PreTraining" in architecture else hf_ast.load_classifier
    return load(str(folder))[0].state_dict()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
