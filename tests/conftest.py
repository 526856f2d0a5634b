"""Fixtures of all rooms. Imports of torch are in the fixtures: the process that only starts the others needs none."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cases import CaseCounts

if TYPE_CHECKING:
    from tests.support.loopback_hub import LoopbackHub


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CaseCounts())


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    from hf_ast import HfASTFeatureExtractor
    from tests.support.tiny import tiny_model

    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[LoopbackHub]":
    """A hub on loopback, to which the clients in this process speak, with its token and a cache of their own."""
    import transformers.utils.hub
    from huggingface_hub import constants

    from tests.support.loopback_hub import TOKEN, serve

    (tmp_path / "storage").mkdir()
    with serve(tmp_path / "storage") as hub:
        # What the environment sets when huggingface_hub is imported
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        # The client that transformers makes once, in some versions, keeps the address of its first hub
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
