"""Whatever is given to the models: the output of the same clips alone, or one clear error; never a NaN."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from hf_ast import SSASTForAudioClassification
from tests.support.cases import cases, outcome
from tests.support.tiny import randomize, tiny_model, tiny_passt, tiny_ssast, tiny_ssast_config

MEL_BINS, PATCH_FRAMES, LONGEST = 32, 6, 50
CLASSIFIERS = {
    "ast": tiny_model(),
    "passt": tiny_passt(),
    "ssast": randomize(SSASTForAudioClassification(tiny_ssast_config(num_labels=5))),
    "ast, centre": tiny_model(position_crop="center", pooling="mean"),
    "ast, crop": tiny_model(position_overflow="crop"),
    "passt, interpolate": tiny_passt(position_overflow="interpolate", pooling="cls"),
}
PRETRAINING = tiny_ssast(num_mask_patches=3)
NAMES = st.sampled_from(sorted(CLASSIFIERS))
FRAMES = st.one_of(st.integers(PATCH_FRAMES, LONGEST), st.sampled_from([0, 1, 5, 51, 52, 53, 54, 60, 200]))
SHAPES = st.one_of(
    st.tuples(st.integers(1, 3), FRAMES, st.just(MEL_BINS)),
    st.tuples(st.integers(0, 3), FRAMES, st.sampled_from([0, 1, 31, 32, 33, 128])),
    st.tuples(st.integers(0, 3), FRAMES),
    st.tuples(st.integers(1, 2), st.just(1), FRAMES, st.just(MEL_BINS)),
)
DTYPES = st.one_of(
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    st.sampled_from([torch.int16, torch.int64, torch.uint8, torch.bool, torch.complex64]),
)
LAYOUTS = st.sampled_from(
    ["plain", "transposed", "strided", "expanded", "requires_grad", "inference", "numpy", "list"]
)


def spectrogram(shape: tuple[int, ...], dtype: torch.dtype, layout: str, seed: int) -> tuple[Any, torch.Tensor]:
    """A spectrogram, and the same as a plain float32 tensor."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    values = (100 * values).to(dtype) if not (dtype.is_floating_point or dtype.is_complex) else values.to(dtype)
    if layout == "transposed" and values.ndim > 1:
        values = values.mT.contiguous().mT
    elif layout == "strided":
        values = values.repeat_interleave(2, dim=0)[::2]
    elif layout == "expanded" and len(values):
        values = values[:1].expand(values.shape)
    elif layout == "requires_grad" and dtype.is_floating_point:
        values.requires_grad_()
    elif layout == "inference":
        with torch.inference_mode():
            values = values.clone()
    plain = values.detach().clone().contiguous()
    if layout in ("numpy", "list") and dtype is not torch.bfloat16:
        return (values.numpy() if layout == "numpy" else values.tolist()), plain
    return values, plain


@cases(6, name=NAMES, shape=SHAPES, dtype=DTYPES, layout=LAYOUTS, seed=st.integers(0, 9))
def test_spectrograms(name: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str, seed: int) -> None:
    model = CLASSIFIERS[name]
    given, plain = spectrogram(shape, dtype, layout, seed)
    with torch.no_grad():
        output = outcome(lambda: model(given), "input_values")
        longest = LONGEST + 3 if "," not in name or "centre" in name else 10**9
        is_right = (
            isinstance(given, torch.Tensor)
            and dtype.is_floating_point
            and len(shape) == 3
            and shape[0] > 0
            and PATCH_FRAMES <= shape[1] <= (longest if not name.startswith("ssast") else LONGEST + 3)
            and shape[2] == MEL_BINS
        )
        assert (output is not None) == is_right
        if output is not None:
            torch.testing.assert_close(output.logits, model(plain.float()).logits, atol=0, rtol=0)
            assert output.logits.isfinite().all()


MASK_DTYPES = st.sampled_from([torch.bool, torch.int64, torch.int32, torch.uint8, torch.float32])


@st.composite
def frame_masks(draw: Any, num_frames: int) -> list[int]:
    """Padding on the right, on the left, on both sides, in holes, everywhere or nowhere."""
    kind = draw(st.sampled_from(["right", "left", "both", "holes", "none", "all"]))
    if kind == "holes":
        return [int(bit) for bit in f"{draw(st.integers(0, 2**num_frames - 1)):0{num_frames}b}"]
    first, last = sorted(draw(st.tuples(st.integers(0, num_frames), st.integers(0, num_frames))))
    first = 0 if kind in ("right", "none") else first
    last = num_frames if kind in ("left", "none") else last
    return [int(first <= frame < last and kind != "all") for frame in range(num_frames)]


@cases(5, data=st.data(), name=NAMES, num_frames=st.integers(PATCH_FRAMES, LONGEST), dtype=MASK_DTYPES)
def test_masks(data: st.DataObject, name: str, num_frames: int, dtype: torch.dtype) -> None:
    """Padding, whatever it holds, changes nothing; a clip in one piece gives what it gives alone."""
    model = CLASSIFIERS[name]
    masks = data.draw(st.lists(frame_masks(num_frames), min_size=1, max_size=3))
    mask = torch.tensor(masks)
    clips = torch.randn(len(masks), num_frames, MEL_BINS, generator=torch.Generator().manual_seed(1))
    clips[mask == 0] = 1e3
    with torch.no_grad():
        logits = model(clips, attention_mask=mask.to(dtype)).logits
        assert logits.isfinite().all()
        for index, real in enumerate(mask.bool()):
            frames = real.nonzero().flatten()
            if len(frames) < PATCH_FRAMES or frames[-1] - frames[0] + 1 != len(frames):
                continue
            alone = model(clips[index : index + 1, real]).logits[0]
            torch.testing.assert_close(logits[index], alone, atol=1e-4, rtol=1e-4)


WRONG_MASKS = st.sampled_from(["short", "long", "flat", "deep", "batch", "per token", "list", "numpy", "text"])


@cases(2, name=NAMES, kind=WRONG_MASKS, num_frames=st.integers(PATCH_FRAMES, LONGEST))
def test_wrong_masks(name: str, kind: str, num_frames: int) -> None:
    clips, mask = torch.zeros(2, num_frames, MEL_BINS), torch.ones(2, num_frames)
    wrong = {
        "short": mask[:, 1:],
        "long": torch.ones(2, num_frames + 1),
        "flat": mask[0],
        "deep": mask.unsqueeze(-1),
        "batch": torch.ones(3, num_frames),
        "per token": torch.ones(2, 7) if num_frames != 7 else torch.ones(2, 8),
        "list": mask.tolist(),
        "numpy": mask.numpy(),
        "text": "1" * num_frames,
    }[kind]
    assert outcome(lambda: CLASSIFIERS[name](clips, attention_mask=wrong), "attention_mask") is None


LABEL_SHAPES = st.sampled_from([(), (2,), (1,), (3,), (2, 1), (2, 5), (2, 4), (5, 2), (2, 5, 1), (0,), (10,)])
LABEL_DTYPES = st.sampled_from(
    [*(f"float{bits}" for bits in (16, 32, 64)), "int64", "int32", "uint8", "bool", "complex64"]
)
LABEL_VALUES = st.sampled_from(["indices", "ones", "negative", "large", "ignored", "nan", "inf"])
PROBLEMS = st.sampled_from([None, "single_label_classification", "multi_label_classification", "regression"])


@cases(
    6,
    problem=PROBLEMS,
    num_labels=st.sampled_from([5, 1]),
    shape=LABEL_SHAPES,
    dtype=LABEL_DTYPES,
    content=LABEL_VALUES,
    container=st.sampled_from(["torch", "torch", "torch", "list", "numpy"]),
)
def test_labels(
    problem: str | None, num_labels: int, shape: tuple[int, ...], dtype: str, content: str, container: str
) -> None:
    model = ONE_OUTPUT if num_labels == 1 else CLASSIFIERS["ast"]
    values = {"negative": -3.0, "large": 7.0, "ignored": -100.0, "nan": np.nan, "inf": np.inf}
    array = np.resize(np.array([0.0, 1.0] if content == "ones" else [1.0, 0.0, 2.0]), shape)
    if array.size and content in values:
        array.flat[-1] = values[content]
    with np.errstate(invalid="ignore"):
        array = array.astype(dtype)
    labels = {"torch": torch.from_numpy(array), "list": array.tolist(), "numpy": array}[container]
    model.config.problem_type = problem
    clips = torch.ones(2, 20, MEL_BINS)
    with torch.no_grad():
        output = outcome(lambda: model(clips, labels=labels), "labels")
        if output is None:
            return
        assert output.loss.isfinite() or (content == "ignored" and output.loss.isnan() and labels.ndim == 1)
        torch.testing.assert_close(output.logits, model(clips).logits)
        problem = model.config.problem_type
        target = torch.from_numpy(array)
        if problem == "regression":
            expected = torch.nn.functional.mse_loss(output.logits, target.float().view(2, num_labels))
        elif problem == "multi_label_classification":
            known = target != -100
            expected = torch.nn.functional.binary_cross_entropy_with_logits(
                output.logits[known], target.float()[known]
            )
        elif target.is_floating_point():
            known = (target != -100).all(dim=1)
            expected = torch.nn.functional.cross_entropy(output.logits[known], target.float()[known])
        else:
            expected = torch.nn.functional.cross_entropy(output.logits, target.long().view(-1))
        torch.testing.assert_close(output.loss, expected, equal_nan=True)


ONE_OUTPUT = tiny_model(num_labels=1)


@cases(
    3,
    num_frames=st.one_of(st.integers(PATCH_FRAMES, LONGEST), st.sampled_from([0, 5, 60])),
    indices=st.one_of(st.none(), st.lists(st.integers(-2, 40), max_size=4)),
    kind=st.sampled_from(["right", "right", "float", "flat", "batch", "list", "bool"]),
    masked=st.integers(0, LONGEST),
)
def test_pretraining(num_frames: int, indices: list[int] | None, kind: str, masked: int) -> None:
    clips = torch.randn(2, num_frames, MEL_BINS, generator=torch.Generator().manual_seed(2))
    attention_mask = torch.ones(2, num_frames, dtype=torch.long)
    attention_mask[1, max(0, num_frames - masked) :] = 0
    given: Any = None
    if indices is not None:
        rows = torch.tensor([indices, indices], dtype=torch.long)
        given = {"float": rows.float(), "flat": rows[0], "batch": rows[:1], "list": [indices] * 2, "bool": rows > 0}
        given = given.get(kind, rows)
    with torch.no_grad():
        output = outcome(
            lambda: PRETRAINING(clips, attention_mask, mask_indices=given), "mask_indices", "input_values", "num_mask"
        )
    if output is not None:
        assert kind == "right" or given is None
        assert output.loss.isfinite()
        assert all(value.isfinite().all() for value in (output.reconstruction_loss, output.classification_loss))


@cases(0.5, name=NAMES, num_frames=st.integers(PATCH_FRAMES, LONGEST), where=st.integers(0, 9999))
def test_a_nan_stays_in_its_clip(name: str, num_frames: int, where: int) -> None:
    """The models do not look for NaN, which would cost a synchronisation; the extractors do."""
    clips = torch.randn(3, num_frames, MEL_BINS, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = CLASSIFIERS[name](clips).logits
        clips[1].view(-1)[where % clips[1].numel()] = torch.nan
        logits = CLASSIFIERS[name](clips).logits
    torch.testing.assert_close(logits[[0, 2]], expected[[0, 2]], atol=1e-5, rtol=1e-5)
