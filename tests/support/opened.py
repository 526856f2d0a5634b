"""What a saved folder computes, by all the ways to open it: with the package, or by the code in the folder.

    python tests/support/opened.py OUT.json [--hub CACHE | --package] FOLDER...

opens by remote code, with `hf_ast` out of reach, on whatever version of transformers is installed. Each folder has a
file `waveforms.npy`, clips of unequal lengths with NaN after the shorter ones. It also fine-tunes, saves into
FOLDER-again and opens that. With `--package`, all this is done with the package, and without remote code. `opened`
gives the same numbers in the process that calls it.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForPreTraining,
    pipeline,
)

IMPLEMENTATIONS = ("sdpa", "eager", "per_head")


def opened(source: str, waveforms: list[np.ndarray], **trust: bool) -> dict[str, Any]:
    """Digests of every number, and what tells the classes apart.

    Args:
        source: Folder or Hub id.
        waveforms: Two clips of different lengths.
        trust: `trust_remote_code`, or nothing.
    """
    extractor = AutoFeatureExtractor.from_pretrained(source, **trust)
    config = AutoConfig.from_pretrained(source, **trust)
    one, padded = inputs(extractor, waveforms)
    found: dict[str, Any] = {
        "features": digest(one["input_values"], padded["input_values"], padded["attention_mask"]),
        "config": [type(config).__name__, config.max_length, config.num_labels, config.problem_type],
        "extractor": type(extractor).__name__,
    }
    for name in IMPLEMENTATIONS:
        model = AutoModel.from_pretrained(source, attn_implementation=name, **trust).eval()
        assert model.config._attn_implementation == name
        found[name] = digest(*run(model, **one), *run(model, **padded))
    model.set_attn_implementation("eager")  # and that it does so
    outputs = run(model, **padded, output_attentions=True, output_hidden_states=True)
    found["recorded"] = [len(outputs), digest(*outputs)]
    moved = AutoModel.from_pretrained(source, max_length=config.max_length + 40, **trust).eval()
    found["longer"] = digest(*run(moved, input_values=torch.ones(1, moved.config.max_length, config.num_mel_bins)))
    if config.architectures[0].endswith("ForPreTraining"):
        torch.manual_seed(0)  # of the masks
        found["pretraining"] = digest(*run(AutoModelForPreTraining.from_pretrained(source, **trust).eval(), **padded))
        return found
    if config.architectures[0].endswith("ForAudioFrameClassification"):
        frames = AutoModelForAudioFrameClassification.from_pretrained(source, **trust).train()
        labels = torch.ones(2, config.num_cells_of(padded["input_values"].shape[1]), config.num_labels)
        found["frames"] = gradients(frames, **padded, labels=labels, clip_labels=labels[:, 0])
        return found
    classifier = AutoModelForAudioClassification.from_pretrained(source, **trust).train()
    classifier.gradient_checkpointing_enable()
    found["gradients"] = gradients(classifier, **padded, labels=torch.tensor([1, 2]))
    sound = {"raw": waveforms[0], "sampling_rate": extractor.sampling_rate}
    found["pipeline"] = pipeline("audio-classification", model=source, top_k=None, **trust)(sound)
    return found


def inputs(extractor: Any, waveforms: list[np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs of the first clip, and of all, padded."""
    settings = {"sampling_rate": extractor.sampling_rate, "return_tensors": "pt"}
    one = extractor(waveforms[0], **settings)
    padded = extractor(waveforms, padding="longest", **settings)
    assert not padded["attention_mask"].all()
    return dict(one), dict(padded)


@torch.no_grad()
def run(model: Any, **arguments: Any) -> list[torch.Tensor]:
    """All tensors of the output."""
    outputs = []
    for value in model(**arguments).to_tuple():
        outputs += list(value) if isinstance(value, tuple) else [value]
    return [value for value in outputs if value is not None]


def gradients(model: Any, **arguments: Any) -> str:
    """Digest of the loss, the logits and all gradients."""
    outputs = model(**arguments)
    outputs.loss.backward()
    return digest(outputs.loss, outputs.logits, *(value.grad for value in model.parameters()))


def digest(*tensors: torch.Tensor) -> str:
    """One name for the bits of all."""
    result = hashlib.sha256()
    for tensor in tensors:
        assert tensor.isfinite().all()
        result.update(np.ascontiguousarray(tensor.detach().numpy()).tobytes())
    return result.hexdigest()[:16]


def again(folder: Path, **trust: bool) -> dict[str, Any]:
    """Take a step of training, save, and open what was saved."""
    from transformers import Trainer, TrainingArguments

    out = folder.with_name(f"{folder.name}-again")
    extractor = AutoFeatureExtractor.from_pretrained(folder, **trust)
    model = AutoModelForAudioClassification.from_pretrained(folder, **trust)
    one, padded = inputs(extractor, clips(folder))
    data = [{"input_values": values, "labels": label} for label, values in enumerate(padded["input_values"])]
    arguments = TrainingArguments(str(out), max_steps=1, report_to=[], save_strategy="no", use_cpu=True)
    trainer = Trainer(model=model, args=arguments, train_dataset=data, processing_class=extractor)
    trainer.train()
    trainer.save_model(str(out))
    saved = AutoModelForAudioClassification.from_pretrained(out, **trust).eval()
    equal = all(map(torch.equal, run(saved, **one), run(model.eval(), **one)))
    return {
        "equal": equal,
        "code": {path.name: path.read_text() == (folder / path.name).read_text() for path in out.glob("*.py")},
        "auto_map": json.loads((out / "config.json").read_text())["auto_map"]
        | json.loads((out / "preprocessor_config.json").read_text())["auto_map"],
    }


def clips(folder: Path) -> list[np.ndarray]:
    """Clips of a folder."""
    return [row[np.isfinite(row)] for row in np.load(folder / "waveforms.npy")]


def main() -> None:
    """Write what each folder computes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--hub", help="namespace under which the folders are in the local cache of the Hub, too")
    parser.add_argument("--package", action="store_true", help="with hf_ast, from which all classes must come")
    args = parser.parse_args()
    trust = {} if args.package else {"trust_remote_code": True}
    if args.package:
        import hf_ast

        assert AutoConfig.for_model("ssast").__class__ is hf_ast.SSASTConfig
    else:
        sys.modules["hf_ast"] = None  # type: ignore[assignment]  # cannot be imported
    results: dict[str, Any] = {"transformers": transformers.__version__, "torch": torch.__version__}
    for folder in args.folders:
        found = results[folder.name] = {"folder": opened(str(folder), clips(folder), **trust)}
        if args.hub:
            source = f"{args.hub}/{folder.name}"
            found["hub"] = opened(source, clips(folder), trust_remote_code=True)
        if "pipeline" in found["folder"]:
            found["again"] = again(folder, **trust)
    args.out.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
