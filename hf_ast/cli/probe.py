"""`hf-ast probe`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .datasets import Data, HeadersOnly, LabelOptions, as_lines, report_failed
from .options import DEFAULT_MODEL, FrontEndOptions, Json, Model, quiet_loading, with_options
from .output import show_result


@with_options
def probe(
    data: Data,
    options: FrontEndOptions,
    labels: LabelOptions,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model.")] = Path("probe"),
    model: Model = DEFAULT_MODEL,
    headers_only: HeadersOnly = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the parts of the cross-validation.")] = 0,
    as_json: Json = False,
) -> None:
    """Fit a linear classifier to the embeddings of a model, in seconds.

    What to try before `hf-ast finetune`. The result is that on the test split, or of a five-fold cross-validation if
    the data name none. --out gets a model like that of `finetune`, with metrics.json, results.png and README.md. With
    `--json`, the same object as that of `finetune`.
    """
    from hf_ast.training.probe import probe

    quiet_loading()
    found = labels.read(data, validation_fraction=0.0, decode=not headers_only)
    done = probe(found, out, model=model, seed=seed, progress=sys.stderr.isatty(), **options.settings())
    assert done.evaluation is not None
    reasons = {"skipped": found.skipped, "warned": found.warned}
    result = {"folder": str(out), "split": done.split} | done.evaluation.as_data() | reasons
    show_result(as_json, result, [f"{out}, {done.split}:", *as_lines(done.evaluation)])
    if report_failed(done.evaluation) or found.failed:
        raise typer.Exit(1)
