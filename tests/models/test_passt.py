"""PaSST: positions, lengths, front end, conversion. The numbers of the official code are in the golden cases."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

from hf_ast import (
    PaSSTConfig,
    PaSSTFeatureExtractor,
    PaSSTForAudioClassification,
    PaSSTModel,
    SpectrogramClassifier,
    SpectrogramTransformer,
)
from hf_ast.conversion import convert_checkpoint
from hf_ast.conversion.convert import rename
from hf_ast.conversion.layouts import LAYOUTS
from hf_ast.conversion.reference import reference_forward
from tests.support.golden_passt import passt_config
from tests.support.official_files import MICRO_PASST, micro_passt_content, torch_only
from tests.support.tiny import GEOMETRY, SIZE, spectrograms, tiny_passt, waveforms

LAYOUT_FILES = sorted((Path(__file__).parents[1] / "golden" / "layouts").glob("passt_*.json"))
RATE = 32000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("settings", "grid", "position_grid"),
    [
        ({}, (12, 99), (12, 99)),
        ({"max_length": 2000}, (12, 199), (12, 200)),
        ({"max_length": 3200}, (12, 319), (12, 320)),
        ({"frequency_stride": 12, "time_stride": 12}, (10, 82), (10, 83)),
        ({"frequency_stride": 16, "time_stride": 16}, (8, 62), (8, 62)),
        ({"patch_size": (16, 4), "max_length": 1004}, (12, 101), (12, 101)),
    ],
)
def test_table_has_a_column_per_stride(settings, grid, position_grid):
    config = PaSSTConfig(**settings)
    assert config.grid == grid
    assert config.position_grid == position_grid


def test_positions_are_the_sum_of_both_tables():
    model = tiny_passt().backbone
    table = model.embeddings.positions
    assert table.frequency_table.shape == (1, 5, 1, 32)
    assert table.time_table.shape == (1, 1, 12, 32)
    tokens, *_ = model.embeddings(spectrograms(2, 30))
    patches = model.embeddings.patch_embedding(spectrograms(2, 30))
    expected = patches + table.frequency_table + table.time_table[:, :, :7]
    torch.testing.assert_close(tokens[:, 2:], expected.flatten(1, 2))


@pytest.mark.parametrize("pooling", ["prefix", "cls", "mean"])
@pytest.mark.parametrize("position_crop", ["start", "center"])
@torch.no_grad()
def test_padded_batch_equals_single_clips(pooling, position_crop):
    model = tiny_passt(pooling=pooling, position_crop=position_crop)
    lengths = (50, 33, 12, 3)
    batch, mask = spectrograms(4, 50), torch.zeros(4, 50, dtype=torch.long)
    for clip, length in enumerate(lengths):
        mask[clip, :length] = 1
    logits = model(batch, attention_mask=mask).logits
    for clip, length in enumerate(lengths[:3]):
        alone = model(batch[clip : clip + 1, :length]).logits
        torch.testing.assert_close(logits[clip : clip + 1], alone, atol=1e-5, rtol=1e-5)
    assert logits.isfinite().all()


@torch.no_grad()
def test_padded_batch_of_waveforms_equals_single_clips():
    extractor = PaSSTFeatureExtractor(num_mel_bins=32, max_length=50)
    model = tiny_passt()
    clips = [waveforms(1, num_samples, num_samples)[0] for num_samples in (16000, 9001, 4000)]
    logits = model(**extractor(clips, RATE, return_tensors="pt")).logits
    for clip, expected in zip(clips, logits, strict=True):
        alone = model(**extractor(clip, RATE, return_tensors="pt")).logits[0]
        torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_random_positions_in_training_only():
    model = tiny_passt(position_crop="random").backbone.embeddings
    clip = spectrograms(2, 30)
    patches = model.patch_embedding(clip)
    starts = set()
    model.train()
    for seed in range(40):
        tokens, *_ = model(clip, generator=seeded(seed))
        assert torch.equal(tokens, model(clip, generator=seeded(seed))[0])
        for start in range(6):
            positions = model.positions(12)[:, :, start : start + 7]
            if torch.allclose(tokens[:, 2:], (patches + positions).flatten(1, 2), atol=1e-6):
                starts.add(start)
    assert starts == set(range(6))
    model.eval()
    torch.testing.assert_close(model(clip)[0][:, 2:], (patches + model.positions(7)).flatten(1, 2))


@torch.no_grad()
def test_longer_clips_are_an_error_or_cut_or_stretched():
    clip = spectrograms(1, 80)
    with pytest.raises(ValueError, match=r"80 frames, but the position table covers at most 53.*max_length=80"):
        tiny_passt()(clip)
    crop = tiny_passt(position_overflow="crop")
    torch.testing.assert_close(crop(clip).logits, crop(clip[:, :50]).logits)
    stretched = tiny_passt(position_overflow="interpolate").backbone.embeddings.positions
    time_table = torch.nn.functional.interpolate(stretched.time_table[0].mT, size=19, mode="linear").mT
    torch.testing.assert_close(stretched(19), stretched.frequency_table + time_table)


@torch.no_grad()
def test_loading_for_another_geometry(tmp_path):
    model = tiny_passt()
    model.save_pretrained(tmp_path)
    shorter = PaSSTForAudioClassification.from_pretrained(tmp_path, max_length=30)
    assert shorter.backbone.embeddings.positions.time_table.shape[2] == 7
    torch.testing.assert_close(shorter(spectrograms(2, 30)).logits, model(spectrograms(2, 30)).logits)

    longer = PaSSTForAudioClassification.from_pretrained(tmp_path, max_length=98, num_mel_bins=44)
    old, new = model.backbone.embeddings.positions, longer.backbone.embeddings.positions
    assert longer(torch.zeros(1, 98, 44)).logits.shape == (1, 5)
    for before, after in (
        (old.time_table[0], new.time_table[0]),
        (old.frequency_table[:, :, 0], new.frequency_table[:, :, 0]),
    ):
        expected = torch.nn.functional.interpolate(before.mT, size=after.shape[1], mode="linear").mT
        torch.testing.assert_close(after, expected)
    longer.save_pretrained(tmp_path / "longer")
    again = PaSSTForAudioClassification.from_pretrained(tmp_path / "longer")
    assert torch.equal(again.backbone.embeddings.positions.time_table, new.time_table)


@torch.no_grad()
def test_torch_only_model_has_the_same_parameters():
    model = tiny_passt()
    plain = SpectrogramClassifier(SpectrogramTransformer(**SIZE, **GEOMETRY, position_table="factorised"), 5).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(spectrograms(2, 41)), model(spectrograms(2, 41)).logits)


def test_without_distillation_token():
    model = tiny_passt(use_distillation_token=False)
    assert model.backbone(spectrograms(1, 50)).last_hidden_state.shape[1] == 1 + 5 * 12
    assert model.backbone.embeddings.prefix_positions.shape == (1, 1, 32)


def test_auto_classes_and_pipeline(tmp_path):
    model = tiny_passt()
    extractor = PaSSTFeatureExtractor(num_mel_bins=32, max_length=50, hop_length=160)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    assert isinstance(AutoModelForAudioClassification.from_pretrained(tmp_path), PaSSTForAudioClassification)
    assert AutoFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()
    clip = waveforms(1, 5000)[0]
    scores = pipeline("audio-classification", model=str(tmp_path))(clip.numpy())
    expected = model(**extractor(clip, RATE, return_tensors="pt")).logits[0].softmax(-1).sort(descending=True).values
    np.testing.assert_allclose([score["score"] for score in scores], expected.detach(), atol=1e-6)


# Conversion


@pytest.mark.parametrize("path", LAYOUT_FILES, ids=lambda path: path.stem)
def test_every_released_layout_fills_the_model(path):
    """Names and shapes, on the meta device; the golden cases hold the numbers."""
    described = json.loads(path.read_text())
    tensors = {name: torch.empty(shape, device="meta") for name, shape, _ in described["tensors"]}
    config = passt_config(described["config"])
    layout = LAYOUTS[PaSSTConfig][0]
    renamed = rename(tensors, layout)
    layout.adapt(renamed, config)
    with torch.device("meta"):
        expected = PaSSTForAudioClassification(config).state_dict()
    assert {name: tensor.shape for name, tensor in renamed.items()} == {n: t.shape for n, t in expected.items()}
    assert len(renamed) == len(tensors) - 2  # head_dist


@torch.no_grad()
def test_conversion_is_right_and_strict():
    checkpoint, config = micro_passt_content(), PaSSTConfig(**MICRO_PASST, num_labels=20)
    input_values = spectrograms(1, 400, 128)
    expected = reference_forward(checkpoint, input_values, num_heads=3, stride=(10, 10))
    outputs = convert_checkpoint(checkpoint, config)(input_values)
    torch.testing.assert_close(outputs.logits, expected["logits"], atol=1e-5, rtol=1e-5)
    backbone = convert_checkpoint(checkpoint, config, model_class=PaSSTModel)
    tokens = backbone(input_values).last_hidden_state
    torch.testing.assert_close(tokens, expected["last_hidden_state"], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"time_table.*\(1, 1, 99, 96\), the config describes \(1, 1, 120, 96\)"):
        convert_checkpoint(checkpoint, PaSSTConfig(**config.to_dict() | {"max_length": 1200}))
    without = {name: tensor for name, tensor in checkpoint.items() if name != "time_new_pos_embed"}
    with pytest.raises(ValueError, match="in no layout known for PaSSTConfig"):
        convert_checkpoint(without, config)
    without = {name: tensor for name, tensor in checkpoint.items() if name != "freq_new_pos_embed"}
    with pytest.raises(ValueError, match=r"positions\.frequency_table"):
        convert_checkpoint(without, config)


@torch.no_grad()
def test_torch_only_ast_file():
    config = PaSSTConfig(**MICRO_PASST, num_labels=20)
    official = micro_passt_content()
    checkpoint = torch_only(official)
    assert checkpoint["embedding.time_embedding"].shape == (96, 99)
    input_values = spectrograms(1, 400, 128)
    expected = reference_forward(official, input_values, num_heads=3, stride=(10, 10))["logits"]
    converted = convert_checkpoint({"model": checkpoint, "resolved_config": {}}, config)
    torch.testing.assert_close(converted(input_values).logits, expected, atol=1e-5, rtol=1e-5)
