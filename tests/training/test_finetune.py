"""From a folder that nobody prepared to a model that labels its own files, and through interruptions."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, TrainerCallback, pipeline

from hf_ast import HfASTFeatureExtractor, HfASTForAudioClassification, PaSSTForAudioClassification, audio, tag
from hf_ast.data.labelled import LabelledData, read_data
from hf_ast.text import markdown
from hf_ast.training.finetune import finetune
from hf_ast.training.output import last_state
from hf_ast.training.preparation import load_for_training
from hf_ast.training.presets import PRESETS, Preset
from tests.support.labelled import NOISE, PULSES, SKIPPED, TONES, write_folder
from tests.support.loopback_hub import LoopbackHub
from tests.support.tiny import passt_extractor, tiny_config, tiny_passt, tiny_ssast

# From random weights, all layers have to learn
FROM_SCRATCH = Preset(learning_rate=3e-3, num_epochs=25, batch_size=12, weight_decay=0.01, adam_beta1=0.9)
# Everything that is drawn: crops, mixup, masks, noise, dropout
RANDOM = replace(
    PRESETS["speech-commands"], learning_rate=1e-3, num_epochs=2, batch_size=8, max_length=None, stats="checkpoint"
)
AVERAGED = replace(RANDOM, balanced=True, average_from_epoch=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    return read_data(write_folder(tmp_path_factory.mktemp("data") / "recordings"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    HfASTForAudioClassification(tiny_config(hidden_dropout_prob=0.1)).save_pretrained(folder)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(folder)
    return folder


def test_a_folder_that_nobody_prepared(data: LabelledData, start: Path, tmp_path: Path) -> None:
    assert data.skipped.keys() == SKIPPED
    done = finetune(data, tmp_path, model=start, preset=FROM_SCRATCH, stats="data", num_workers=0)
    assert done.split == "validation"
    assert done.evaluation is not None
    assert done.evaluation.metrics.values["accuracy"] == 1.0

    classifier = pipeline("audio-classification", model=str(tmp_path))
    right = []
    for clip in data.clips:
        path = str(Path(data.source.location) / clip.name)
        right.append(classifier(path, top_k=1)[0]["label"] == data.labels[clip.labels[0]])
        assert right[-1] == (tag(done.model, done.feature_extractor, path).top(1)[0].label == clip.name.split("/")[0])
    assert np.mean(right) >= 0.97

    result = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert result["metrics"]["accuracy"] == 1.0
    assert result["metrics"]["d_prime"] is None  # infinite
    assert [row["label"] for row in result["classes"]] == [TONES, NOISE, PULSES]
    card = ModelCard.load(tmp_path / "README.md")
    assert {result.metric_type: result.metric_value for result in card.data.eval_results or []}["accuracy"] == 1.0
    assert f"| {TONES} | 10 | 2 | 1.000 |" in card.text
    assert "4 files were left out" in card.text
    assert (tmp_path / "results.png").stat().st_size > 10_000


class Stop(TrainerCallback):
    """Ends a training after its twelfth step, by an error or by the signal that no process survives."""

    def __init__(self, *, kill: bool):
        self.kill = kill

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 12:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt


def train(data: LabelledData, output: Path, start: Path, preset: Preset, **settings: Any) -> None:
    finetune(data, output, model=start, preset=preset, duration_s=0.25, eval_every=5, **settings)


@pytest.mark.parametrize(
    ("preset", "kill"),
    [
        (AVERAGED, False),
        pytest.param(RANDOM, True, marks=pytest.mark.slow),
        pytest.param(AVERAGED, True, marks=pytest.mark.slow),
    ],
    ids=["averaged-interrupted", "killed", "averaged-killed"],
)
def test_a_training_that_was_cut_off_continues_as_if_nothing_had_happened(
    data: LabelledData, start: Path, tmp_path: Path, preset: Preset, kill: bool
) -> None:
    train(data, tmp_path / "whole", start, preset, num_workers=0)
    if kill:
        # With worker processes, which make no difference. Not forked: a CUDA build of torch trains in no fork
        settings = {"num_workers": 1, "callbacks": [Stop(kill=True)]}
        process = multiprocessing.get_context("spawn").Process(
            target=train, args=(data, tmp_path / "killed", start, preset), kwargs=settings
        )
        process.start()
        process.join(300)
        assert process.exitcode == -signal.SIGKILL
    else:
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "killed", start, preset, num_workers=0, callbacks=[Stop(kill=False)])
    assert last_state(tmp_path / "killed").name == "checkpoint-10"  # in the middle of the second epoch
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    train(data, tmp_path / "killed", start, preset, num_workers=0, resume=True)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=0, rtol=0)
    assert (tmp_path / "whole" / "metrics.json").read_text() == (tmp_path / "killed" / "metrics.json").read_text()


ONE_EPOCH = Preset(learning_rate=1e-4, num_epochs=1, batch_size=12)


def test_a_training_continues_only_with_the_same_data(data: LabelledData, start: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no saved state; start without it"):
        finetune(data, tmp_path, model=start, preset=ONE_EPOCH, resume=True)
    finetune(data, tmp_path, model=start, preset=ONE_EPOCH, num_workers=0)
    with pytest.raises(ValueError, match="holds saved states of an earlier run; resume=True continues it"):
        finetune(data, tmp_path, model=start, preset=ONE_EPOCH)
    fewer = replace(data, clips=data.clips[1:])
    with pytest.raises(ValueError, match="sha256 differs from what it was"):
        finetune(fewer, tmp_path, model=start, preset=ONE_EPOCH, resume=True)
    # A state that was being written when the training was killed
    (tmp_path / "checkpoints" / "checkpoint-9").mkdir()
    assert last_state(tmp_path).name == "checkpoint-3"


def test_every_family_and_their_statistics(data: LabelledData, tmp_path: Path) -> None:
    tiny_passt().save_pretrained(tmp_path / "passt")
    passt_extractor().save_pretrained(tmp_path / "passt")
    tiny_ssast().save_pretrained(tmp_path / "ssast")
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50, mean=-5.0, std=2.0).save_pretrained(tmp_path / "ssast")
    wants_data = replace(ONE_EPOCH, stats="data")
    done = finetune(data, tmp_path / "out", model=tmp_path / "passt", preset=wants_data, num_workers=0)
    assert isinstance(done.model, PaSSTForAudioClassification)
    # The recipe is meant for the other filter bank
    assert (done.feature_extractor.mean, done.feature_extractor.std) == (passt_extractor().mean, passt_extractor().std)

    done = finetune(data, tmp_path / "out2", model=tmp_path / "ssast", preset=ONE_EPOCH, num_workers=0)
    assert type(done.model).__name__ == "SSASTForAudioClassification"
    assert (done.feature_extractor.mean, done.feature_extractor.std) == (-5.0, 2.0)
    assert done.model.config.max_length == done.feature_extractor.max_length == 49  # for all of 0.5 s

    done = finetune(data, tmp_path / "out3", model=tmp_path / "ssast", preset=wants_data, num_workers=0)
    values = []
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50, do_normalize=False)
    for clip in data.of("train"):
        waveform, _ = audio.read(Path(data.source.location) / clip.name, 16000)
        values.append(extractor(waveform, 16000, padding=False)["input_values"][0].flatten())
    expected = torch.cat([torch.as_tensor(value) for value in values]).double()
    assert done.feature_extractor.mean == pytest.approx(expected.mean().item(), abs=1e-5)
    assert done.feature_extractor.std == pytest.approx(expected.std().item(), abs=1e-5)
    assert HfASTFeatureExtractor.from_pretrained(tmp_path / "out3").mean == done.feature_extractor.mean


def test_checkpoints_of_transformers_own_ast_and_bfloat16(data: LabelledData, tmp_path: Path) -> None:
    config = ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_length=100,
        num_mel_bins=32, patch_size=8, frequency_stride=6, time_stride=6, num_labels=3,
    )  # fmt: skip
    native = ASTForAudioClassification(config)
    native.save_pretrained(tmp_path / "native")
    ASTFeatureExtractor(num_mel_bins=32, max_length=100, mean=-6.0, std=3.0).save_pretrained(tmp_path / "native")
    done = finetune(data, tmp_path / "out", model=tmp_path / "native", preset=ONE_EPOCH, num_workers=0, bf16=True)
    assert isinstance(done.model, HfASTForAudioClassification)
    assert done.model.dtype == torch.float32
    assert (done.feature_extractor.mean, done.feature_extractor.std) == (-6.0, 3.0)
    before = native.audio_spectrogram_transformer.embeddings.patch_embeddings.projection.weight
    # Three steps of 1e-4 by Adam; bfloat16 would not hold them
    change = (done.model.backbone.embeddings.patch_embedding.projection.weight - before).abs().max()
    assert 0 < change <= 3.1e-4
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(ValueError, match="is a wav2vec2, but must be an AST, SSAST or PaSST"):
        finetune(data, tmp_path / "out2", model=tmp_path / "other")


def test_a_head_for_the_same_classes_is_kept_and_any_other_one_replaced(data: LabelledData, tmp_path: Path) -> None:
    def head(labels: list[str]) -> tuple[torch.Tensor, LabelledData]:
        network, _, moved = load_for_training(tmp_path, data, ONE_EPOCH)
        return network.classifier.linear.weight, moved

    turned = [PULSES, TONES, NOISE]
    model = HfASTForAudioClassification(tiny_config(id2label=dict(enumerate(turned)), num_labels=3))
    model.save_pretrained(tmp_path)
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path)
    weight, moved = head(turned)
    torch.testing.assert_close(weight, model.classifier.linear.weight, atol=0, rtol=0)
    assert moved.labels == turned
    by_name = {clip.name: turned[clip.labels[0]] for clip in moved.clips}
    assert by_name == {clip.name: clip.name.split("/")[0] for clip in data.clips}

    model.config.id2label = {0: "cat", 1: "cow", 2: "dog"}
    model.save_pretrained(tmp_path)
    weight, moved = head(["cat", "cow", "dog"])
    assert moved.labels == data.labels
    assert (weight - model.classifier.linear.weight).abs().min() > 0
    assert weight.abs().max() < 6 * tiny_config().initializer_range


@pytest.mark.parametrize(("num_epochs", "least"), [(1, 0.0), pytest.param(16, 0.85, marks=pytest.mark.slow)])
def test_several_labels_per_recording(
    data: LabelledData, start: Path, tmp_path: Path, num_epochs: int, least: float
) -> None:
    rows = [{"path": clip.name, "labels": [clip.name.split("/")[0], "sound"]} for clip in data.clips]
    rows[0]["labels"] = []
    manifest = Path(data.source.location) / "labels.jsonl"
    manifest.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    several = read_data(manifest)
    assert several.multi_label
    assert several.labels == sorted([TONES, NOISE, PULSES, "sound"])
    preset = replace(FROM_SCRATCH, num_epochs=num_epochs, max_grad_norm=1.0)
    done = finetune(several, tmp_path, model=start, preset=preset, num_workers=0)
    assert done.model.config.problem_type == "multi_label_classification"
    assert done.evaluation is not None
    assert done.evaluation.metrics.values["mAP"] > least
    for name, target in zip(done.evaluation.names, done.evaluation.targets, strict=True):
        expected = next(row["labels"] for row in rows if row["path"] == name)
        assert {several.labels[index] for index in target.nonzero()[0]} == set(expected)
    assert "accuracy" not in done.evaluation.metrics.values


def test_the_result_is_that_of_the_test_split_on_which_nothing_was_chosen(
    data: LabelledData, start: Path, tmp_path: Path
) -> None:
    clips = [
        replace(clip, split="test") if clip.split == "train" and n % 4 == 0 else clip
        for n, clip in enumerate(data.clips)
    ]
    split = replace(data, clips=clips)
    done = finetune(split, tmp_path, model=start, preset=ONE_EPOCH, num_workers=0)
    assert done.split == "test"
    assert done.evaluation is not None
    assert done.evaluation.names == [clip.title for clip in split.of("test")]
    result = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert result["num_recordings"] == len(split.of("test"))
    assert result["baselines"]["largest_class"]["balanced_accuracy"] == pytest.approx(1 / 3)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "of the test split, on which nothing was chosen" in card
    assert all(markdown(remark) in card for remark in result["remarks"])


@pytest.mark.parametrize("changes", [{"freeze": "backbone"}, {"lora": 2}])
def test_a_part_is_trained_and_the_result_is_an_ordinary_model(
    data: LabelledData, start: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    finetune(data, tmp_path, model=start, preset=replace(ONE_EPOCH, learning_rate=0.01), num_workers=0, **changes)
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path))
    assert before.keys() == after.keys()
    moved = {
        name for name, tensor in before.items() if tensor.shape == after[name].shape and not tensor.equal(after[name])
    }
    if "lora" in changes:
        names = {tuple(name.split(".")[-2:]) for name in moved if "layers" in name}
        assert names == {(name, "weight") for name in ("qkv", "proj", "fc1", "fc2")}
    else:
        assert not any(name.startswith("backbone") for name in moved)


def test_the_card_states_the_licence_of_the_weights_or_that_it_is_unknown(
    data: LabelledData, start: Path, tmp_path: Path
) -> None:
    def card(name: str, model: Path, license: str | None = None) -> ModelCard:
        finetune(data, tmp_path / name, model=model, preset=ONE_EPOCH, num_workers=0, license=license)
        return ModelCard.load(tmp_path / name / "README.md")

    unknown = card("unknown", start)
    assert unknown.data.license == "unknown"
    assert "--license" in unknown.text
    own = card("own", start, "cc-by-4.0")
    assert (own.data.license, "started from" in own.text) == ("cc-by-4.0", False)
    inherited = card("inherited", tmp_path / "own")
    assert (inherited.data.license, "started from" in inherited.text) == ("cc-by-4.0", True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"preset": "large"}, "preset='large' is unknown; choose one of"),
        ({"stats": "imagenet"}, "stats='imagenet' is unknown"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be positive"),
        ({"eval_every": 0}, "eval_every=0 must be positive"),
        ({"metric": "mean"}, "metric='mean' does not suit these data"),
        ({"freeze": "head"}, "freeze='head' is unknown"),
        ({"model": "no/such-model"}, "neither a folder nor a released checkpoint"),
    ],
)
def test_wrong_arguments(
    data: LabelledData, start: Path, tmp_path: Path, settings: dict[str, Any], said: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=said):
        finetune(data, tmp_path / "out", **{"model": start} | settings)
    assert not (tmp_path / "out").exists()


def test_data_from_which_nothing_can_be_learnt(data: LabelledData, start: Path, tmp_path: Path) -> None:
    only = replace(data, clips=[clip for clip in data.clips if clip.split != "train"])
    with pytest.raises(ValueError, match="data holds no training recording"):
        finetune(only, tmp_path, model=start)
    one = replace(data, labels=[NOISE], clips=[replace(clip, labels=(0,)) for clip in data.clips])
    with pytest.raises(ValueError, match="only the class 'noise'; a classifier needs two or more"):
        finetune(one, tmp_path, model=start)


def test_the_result_goes_to_the_hub(data: LabelledData, start: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finetune(data, out, model=start, preset=ONE_EPOCH, num_workers=0, push_to_hub="org/sounds")
    files = hub.repositories["org/sounds"].commits[-1].files
    own = {path.name for path in out.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert own <= files.keys()
    assert not any(name.startswith("checkpoints") for name in files)
    assert "org/sounds" in (out / "README.md").read_text(encoding="utf-8")
