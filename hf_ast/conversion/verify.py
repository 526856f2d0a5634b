"""Verify a converted folder against the official file that it was made from.

Three comparisons: the tensors, converted back to the file's layout, must equal the file's bit for bit; a forward pass
must agree with `reference`, which computes directly from the file's tensors; and for AST it must agree with
transformers' own implementation as well.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, PreTrainedConfig, PreTrainedModel, SequenceFeatureExtractor

import hf_ast
from hf_ast.opening import open_safely

from .convert import rename, settle_heads
from .export import file_names, official_tensors, open_model, to_native_ast
from .files import CheckpointFile, as_checkpoint_file
from .folders import plan_conversion, read_provenance, write_provenance
from .key_maps import Dropped, Ignored, look_up
from .layouts import Layout
from .reference import HEAD_EPS, fpasst_reference, reference_forward, spectrogram_start
from .registry import find
from .verification import ForwardComparison, TensorComparison, Verification

SEED = 0
SAMPLE_SIZE = 8
# Allowed difference, relative to the largest output. A different order of summation causes about 1e-6 in float32 after
# 12 layers; two swapped tensors or a wrong order of patches cause 1e-2 or more
TOLERANCE = 1e-4
# Fields that depend on how a config was saved, and labels, which are compared separately
NOT_COMPARED = ("_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "transformers_version")


def verify_folder(folder: Path, source: Path | CheckpointFile) -> Verification:
    """Verify a folder, and write the result into its conversion.json, as `verification`.

    Args:
        folder: Made by `convert_file`.
        source: The file that it was made from. One that was opened for the conversion is not read again.

    Raises:
        ValueError: No conversion made the folder, or the registry does not know the checkpoint. Everything else that
            is wrong is a problem in the result.
    """
    origin = read_provenance(folder)
    checkpoint = find(origin["checkpoint"])
    problems: list[str] = []
    compared, forward = TensorComparison(), None
    assumed: tuple[str, ...] = ()
    with _errors_as_problems(problems):
        file = as_checkpoint_file(source)
        problems += _source_problems(file, origin["source"]["sha256"])
        plan = plan_conversion(file, checkpoint, origin, origin.get("weights"))
        assumed = tuple(plan.assumed)
        problems += _front_end_problems(open_safely(AutoFeatureExtractor, folder), plan.front_end)
        tensors, layout = plan.found.tensors, plan.found.layout
        config = settle_heads(rename(tensors, layout), plan.config)
        model = open_model(folder)
        found = _config_problems(model, config, layout)
        if layout.derived:  # For DeiT, compare with the tensors after AST's initialisation
            tensors = tensors | spectrogram_start(tensors, config.grid)
        compared, different = _compare_tensors(model, tensors, layout)
        problems += found + different
        if not found + different:
            forward = _compare_forward(model, tensors, config)
            problems += _forward_problems(forward)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "hf_ast": hf_ast.__version__}
    verification = Verification(tuple(problems), compared, forward, versions, assumed)
    write_provenance(folder, origin | {"verification": verification.to_json()})
    return verification


@contextmanager
def _errors_as_problems(problems: list[str]) -> Iterator[None]:
    """Turn any exception raised by a damaged folder or file into a reported problem."""
    try:
        yield
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error}")


def _source_problems(source: CheckpointFile, expected: str) -> list[str]:
    if source.sha256 == expected:
        return []
    return [
        f"source={str(source.path)!r} has sha256 {source.sha256}, the folder was made from a file with {expected}."
    ]


def _front_end_problems(front_end: SequenceFeatureExtractor, expected: SequenceFeatureExtractor) -> list[str]:
    saved = front_end.to_dict()
    return [
        f"preprocessor_config.json has {name}={saved.get(name)!r}, but the registry has {value!r}."
        for name, value in expected.to_dict().items()
        if name != "auto_map" and saved.get(name) != value
    ]


def _config_problems(model: PreTrainedModel, expected: PreTrainedConfig, layout: Layout) -> list[str]:
    problems = []
    if type(model) is not layout.model_class:
        problems.append(f"The folder holds a {type(model).__name__}, but the file a {layout.model_class.__name__}.")
    saved = model.config.to_dict()
    for name, value in expected.to_dict().items():
        if name not in NOT_COMPARED and saved.get(name) != value:
            problems.append(f"config.json has {name}={saved.get(name)!r}, but the registry has {value!r}.")
    for name in ("id2label", "label2id"):
        ours, registered = getattr(model.config, name), getattr(expected, name)
        wrong = [key for key in {**registered, **ours} if ours.get(key) != registered.get(key)]
        if wrong:
            problems.append(
                f"config.json has {len(wrong)} labels that differ from the registry: {name}[{wrong[0]!r}] is "
                f"{ours.get(wrong[0])!r}, not {registered.get(wrong[0])!r}."
            )
    return problems


def _compare_tensors(
    model: PreTrainedModel, expected: Mapping[str, Tensor], layout: Layout
) -> tuple[TensorComparison, list[str]]:
    """Compare the model's tensors, under the file's names and in its shapes, with the file's; list what differs."""
    ours, zeros = official_tensors(model, layout)
    targets = dict(file_names(layout.key_map, model.config.num_hidden_layers))
    kept, derived, dropped, problems = 0, {}, {}, []
    for name, tensor in expected.items():
        if name in zeros:
            target = targets[name]
            reason = target.reason if isinstance(target, Dropped) else "head of an objective of weight 0"
            dropped[name] = reason
        elif isinstance(ignored := look_up(name, layout.key_map)[0], Ignored):
            dropped[name] = ignored.reason
        elif name not in ours:
            problems.append(f"The file has the tensor {name!r}, which the folder does not have.")
        elif (difference := _difference(ours[name], tensor)) is not None:
            problems.append(f"The tensor {name!r} differs from the file's {difference}.")
        elif name in layout.derived:
            derived[name] = layout.derived[name]
        else:
            kept += 1
    problems += [
        f"The folder has the tensor {name!r}, which the file does not have."
        for name in ours
        if name not in expected and name not in zeros
    ]
    state = model.state_dict()
    problems += [f"{name!r} is not in the file and must be zeros." for name in layout.new if state[name].any()]
    return TensorComparison(kept, derived, dropped, layout.new), problems


def _difference(ours: Tensor, expected: Tensor) -> str | None:
    """Say how two tensors differ; None if they are equal bit for bit."""
    if (ours.shape, ours.dtype) != (expected.shape, expected.dtype):
        return f"in shape or type: {tuple(ours.shape)} {ours.dtype}, not {tuple(expected.shape)} {expected.dtype}"
    ours_bytes, expected_bytes = (tensor.flatten().view(torch.uint8) for tensor in (ours, expected))
    if torch.equal(ours_bytes, expected_bytes):
        return None
    wrong = (ours_bytes != expected_bytes).view(-1, ours.element_size()).any(dim=1)
    return f"in {int(wrong.sum())} of {ours.numel()} values"


@torch.inference_mode()
def _compare_forward(
    model: PreTrainedModel, tensors: Mapping[str, Tensor], config: PreTrainedConfig
) -> ForwardComparison:
    """Compare the model with `reference` and with transformers' own AST, for one fixed clip of full length."""
    generator = torch.Generator().manual_seed(SEED)
    input_values = torch.randn(1, config.max_length, config.num_mel_bins, generator=generator)
    description = f"standard normal values of shape {tuple(input_values.shape)}, seed {SEED}"
    mask = {}
    if isinstance(model, hf_ast.SSASTForPreTraining):
        rows, columns = config.grid
        mask["mask_indices"] = torch.arange(0, rows * columns, 2).unsqueeze(0)
        description += ", every second patch masked"
    outputs = model(input_values, **mask)
    if isinstance(config, hf_ast.FPaSSTConfig):
        expected = fpasst_reference(
            tensors,
            input_values,
            num_heads=config.num_attention_heads,
            num_cells=config.num_cells or config.grid[1],
            clip_head=config.clip_head,
        )
    else:
        expected = reference_forward(
            tensors,
            input_values,
            num_heads=config.num_attention_heads,
            stride=(config.frequency_stride, config.time_stride),
            pooling=config.pooling,
            **mask,
        )
    compared = [name for name in expected if outputs.get(name) is not None]
    output = outputs[compared[0]]
    native_logits = None
    if isinstance(model, hf_ast.HfASTForAudioClassification):
        native_logits = _native_logits(model, input_values)
    return ForwardComparison(
        input=description,
        output=", ".join(compared),
        shape=tuple(output.shape),
        sample=tuple(output.flatten()[:SAMPLE_SIZE].tolist()),
        scale=max(float(expected[name].abs().max()) for name in compared),
        reference_difference=max(float((outputs[name] - expected[name]).abs().max()) for name in compared),
        native_difference=None if native_logits is None else float((outputs.logits - native_logits).abs().max()),
    )


def _native_logits(model: PreTrainedModel, input_values: Tensor) -> Tensor | None:
    """Return the logits of transformers' own AST with the same tensors; None if it cannot express this model."""
    try:
        native = to_native_ast(model)
    except ValueError:
        return None
    norm = native.get_submodule("classifier.layernorm")
    assert isinstance(norm, nn.LayerNorm)
    norm.eps = HEAD_EPS  # its config has one epsilon for all norms
    return native(input_values).logits


def _forward_problems(forward: ForwardComparison) -> list[str]:
    allowed = TOLERANCE * forward.scale
    differences = {
        "the independent implementation": forward.reference_difference,
        "transformers' own AST": forward.native_difference,
    }
    return [
        f"{forward.output} differs by {difference:.2g} from {other}, more than {allowed:.2g}."
        for other, difference in differences.items()
        if difference is not None and not difference <= allowed  # NaN is a problem as well
    ]
