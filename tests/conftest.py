"""Fixtures of all rooms. Imports of torch are in the fixtures: the process that only starts the others needs none."""

from pathlib import Path

import pytest

from tests.support.cases import CaseCounts


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
