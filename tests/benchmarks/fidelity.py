"""The golden cases as a table: our largest difference from the official code, beside that of transformers' own AST.

    python -m tests.benchmarks.fidelity          # make fidelity

A case compares several arrays, each with its own tolerance; the table has the one that comes closest to its tolerance.
transformers' class carries the same tensors, in its own layout; its extractor has the settings of the case.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tqdm.auto import tqdm
from transformers import ASTFeatureExtractor, PreTrainedModel

from hf_ast.conversion.export import to_native_ast
from tests.support import golden_ast
from tests.support.golden_common import INDEX, Result, check
from tests.test_golden import RUNNERS

NATIVE_MODELS = ("ast", "ast_finetune", "ast_deit_init")
Row = dict[str, Any]


def differences(entry: Mapping[str, Any], result: Result) -> dict[str, Row]:
    """The arrays of a case that `result` has, each with its difference and tolerance."""
    return {row["array"]: row for row in check.compare(entry, result) if row["max_abs_err"] is not None}


def native_classify(model: PreTrainedModel, entry: dict[str, Any], inputs: dict[str, Any]) -> Result:
    """Logits of transformers' own class with the tensors of our model."""
    native = to_native_ast(model).eval()
    with torch.no_grad():
        return {"logits": native(torch.as_tensor(inputs["input_values"])).logits.numpy()}


def run_native(entry: dict[str, Any], inputs: dict[str, Any], folder: Path) -> Result:
    """What transformers' own AST gives for a case; nothing where it has nothing like it."""
    facts = entry["config"]
    if entry["family"] in NATIVE_MODELS:
        with patch.object(golden_ast, "classify", native_classify):  # the same model, made by the same steps
            return RUNNERS[entry["family"]](entry, inputs, folder)
    if entry["family"] == "frontend_ast" and "waveform" in inputs and not (facts["freqm"] or "mix_lambda" in facts):
        extractor = ASTFeatureExtractor(
            sampling_rate=facts["sampling_rate"],
            max_length=facts["target_length"],
            mean=facts["mean"],
            std=facts["std"],
        )
        waveform = inputs["waveform"]
        waveform = waveform[0] if waveform.ndim == 2 else waveform
        features = extractor(waveform, sampling_rate=facts["sampling_rate"], return_tensors="np")["input_values"]
        return {"input_values": features[0]}
    return {}


def measure(case: str) -> Row | None:
    """Both differences of a case; None for a case that is an error in the official code, too."""
    entry = INDEX[case] | {"_folder": "cases"}
    if entry["family"] == "frontend_maest":  # in a format of its own, which the tests compare
        return None
    if "official_raises" in entry["config"]:
        return None
    inputs = check.build_inputs(entry)
    with tempfile.TemporaryDirectory() as folder:
        ours = differences(entry, RUNNERS[entry["family"]](entry, inputs, Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        native = differences(entry, run_native(entry, inputs, Path(folder)))
    # Where both have results, an array of both
    array = max(native or ours, key=lambda name: ours[name]["max_abs_err"] / (ours[name]["atol"] or 1.0))
    return {
        "case": case,
        "array": array,
        "difference": ours[array]["max_abs_err"],
        "tolerance": ours[array]["atol"],
        "within": all(row["status"] == "ok" for row in ours.values()),
        "native": native[array]["max_abs_err"] if native else None,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the rows there, too")
    args = parser.parse_args()
    rows = [row for case in tqdm(INDEX, unit="case") if (row := measure(case)) is not None]
    print("| case | array | difference | tolerance | transformers' AST |\n|---|---|---|---|---|")
    for row in rows:
        native = "-" if row["native"] is None else f"{row['native']:.1e}"
        print(f"| {row['case']} | {row['array']} | {row['difference']:.1e} | {row['tolerance']:.0e} | {native} |")
    print(f"\n{len(rows)} cases, {sum(row['within'] for row in rows)} within tolerance")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
