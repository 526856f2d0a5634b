"""Exports that several tests read; each takes seconds."""

from pathlib import Path

import pytest

from hf_ast.export import export_model
from tests.support.classifiers import tiny_classifier


@pytest.fixture(scope="session")
def keywords_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as an ONNX file from waveforms."""
    folder = tmp_path_factory.mktemp("keywords") / "out"
    export_model(*tiny_classifier("keywords"), folder)
    return folder


@pytest.fixture(scope="session")
def passt_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny PaSST, likewise."""
    folder = tmp_path_factory.mktemp("passt") / "out"
    export_model(*tiny_classifier("passt", num_hidden_layers=1), folder)
    return folder
