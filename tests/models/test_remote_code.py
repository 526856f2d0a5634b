"""A saved folder opens in a process that has transformers but not hf_ast."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForAudioClassification

from hf_ast import HfASTFeatureExtractor, HfASTForAudioClassification, HfASTModel, PaSSTFeatureExtractor
from tests.support.interpreter import PACKAGE, run
from tests.support.tiny import randomize, spectrograms, tiny_model, tiny_passt

LOAD = """
import json
import numpy as np, torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline
model = AutoModelForAudioClassification.from_pretrained({folder!r}, trust_remote_code=True{arguments})
clip = torch.from_numpy(np.load({folder!r} + "/input.npy"))
np.save({folder!r} + "/logits.npy", model(clip).logits.detach().numpy())
pooled = AutoModel.from_pretrained({folder!r}, trust_remote_code=True{arguments})(clip).pooler_output
classifier = pipeline("audio-classification", model={folder!r}, trust_remote_code=True)
labels = classifier(np.random.default_rng(0).standard_normal(8000).astype(np.float32) * 0.1)
extractor = type(classifier.feature_extractor).__name__
print(json.dumps([len(labels), list(pooled.shape), extractor, "hf_ast" in sys.modules]))
model.save_pretrained({folder!r} + "/again")
"""


def run_without_package(folder: Path, arguments: str = "") -> str:
    environment = {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    code = LOAD.format(folder=str(folder), arguments=arguments)
    return run(code, without=("hf_ast",), env=environment, cwd=folder)


@pytest.mark.parametrize(
    ("make_model", "extractor_class", "file"),
    [(tiny_model, HfASTFeatureExtractor, "modeling_ast.py"), (tiny_passt, PaSSTFeatureExtractor, "modeling_passt.py")],
)
def test_a_saved_model_opens_by_remote_code_with_equal_logits(make_model, extractor_class, file, tmp_path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path)
    extractor_class(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    clip = spectrograms(2, 50)
    np.save(tmp_path / "input.npy", clip.numpy())
    assert run_without_package(tmp_path).strip() == f'[5, [2, 32], "{extractor_class.__name__}", false]'
    with torch.no_grad():
        np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), model(clip).logits.numpy())
        # what a process without the package saves is again a complete folder
        again = AutoModelForAudioClassification.from_pretrained(tmp_path / "again")
        torch.testing.assert_close(again(clip).logits, model(clip).logits, atol=0, rtol=0)
    assert {path.name for path in (tmp_path / "again").glob("*.py")} >= {file, "modules_encoder.py"}


def test_another_length_by_remote_code(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    clip = spectrograms(2, 90)
    np.save(tmp_path / "input.npy", clip.numpy())
    run_without_package(tmp_path, ", max_length=90")
    moved = AutoModelForAudioClassification.from_pretrained(tmp_path, max_length=90)
    with torch.no_grad():
        np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), moved(clip).logits.numpy(), atol=1e-6)


def test_saved_code_is_the_package_code(tmp_path: Path) -> None:
    randomize(HfASTModel(tiny_model().config)).save_pretrained(tmp_path)
    HfASTFeatureExtractor().save_pretrained(tmp_path)
    saved = sorted(tmp_path.glob("*.py"))
    assert saved
    for path in saved:
        assert path.read_bytes() == (PACKAGE / "models" / path.name).read_bytes()


def test_a_class_of_a_notebook_is_saved_without_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its code cannot be saved: the config names none, instead of `__main__`, and transformers says so."""
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "HfASTModel", HfASTModel, raising=False)  # as `from hf_ast import HfASTModel` does
    notebook_class = type("Probe", (HfASTForAudioClassification,), {"__module__": "__main__"})
    tiny_model().save_pretrained(tmp_path / "before")
    model = notebook_class.from_pretrained(tmp_path / "before")
    model.save_pretrained(tmp_path / "after")
    saved = json.loads((tmp_path / "after" / "config.json").read_text())
    assert saved["auto_map"] == {"AutoConfig": "configuration_ast.HfASTConfig"}
    assert "We can't save the code defining" in caplog.text
    opened = AutoModelForAudioClassification.from_pretrained(tmp_path / "after")
    assert type(opened) is HfASTForAudioClassification
    torch.testing.assert_close(opened.state_dict(), model.state_dict(), atol=0, rtol=0)
