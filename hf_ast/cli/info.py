"""`hf-ast info`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import HubOptions, Json, quiet_loading, with_options
from .output import show, show_table

MB = 10**6


@with_options
def info(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Folder, id on the Hub, or any name of a released checkpoint."),
    ],
    options: HubOptions,
    as_json: Json = False,
) -> None:
    """Show what a model is.

    Prints its geometry, its front end with all numbers, the length of what it hears at once, its labels, its licence,
    where it comes from, what of it was proved and what was assumed, and its size. No weight is loaded, and a released
    checkpoint that is not in the cache is described without being downloaded. Files of a folder that were changed
    since its conversion are named.

    With `--json`, the result is an object with `family`, `architecture`, `input`, `window_s`, `front_end`, `labels`,
    `cells`, `epsilon`, `license`, `provenance`, `parameters`, `memory_bytes`, `weights`, and more.
    """
    quiet_loading()
    described = describe(model, **{name: value for name, value in options.settings().items() if value is not None})
    if as_json:
        show(json.dumps(described, indent=2))
    else:
        show_table(list(as_rows(described)))


def describe(model: str, **hub: Any) -> dict[str, Any]:
    """Describe a model by its folder, its Hub id, or its entry in the registry."""
    from hf_ast.checkpoints import resolve_model
    from hf_ast.conversion import registry
    from hf_ast.conversion.downloads import default_cache
    from hf_ast.conversion.prepare import converted_folder
    from hf_ast.inference.description import describe_model

    # A revision is of a model on the Hub
    is_folder = Path(model).is_dir()
    released = None if is_folder or "revision" in hub else registry.ALIASES.get(model.lower())
    if released is not None and "/" in model:
        try:
            return {"model": model} | describe_model(model, **hub) | _origin(model, **hub)
        except OSError:  # the Hub cannot be reached
            return {"model": model} | _of_entry(released)
    if released is None:
        path = resolve_model(model, **hub)
        return {"model": model} | describe_model(path, **hub) | _origin(path, **hub)
    folder = converted_folder(released, default_cache())
    if (folder / "config.json").is_file():
        return {"model": model, "folder": str(folder)} | describe_model(folder) | _origin(folder)
    return {"model": model} | _of_entry(released)


def as_rows(described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Format a description as rows of a name and a value."""
    shape, labels, epsilon = described["input"], described["labels"], described["epsilon"]
    yield "model", described["model"]
    for name in ("folder", "family", "architecture", "layout"):
        if described.get(name):
            yield name, str(described[name])
    yield "input", f"{shape['frames']} frames of {shape['mel_bins']} mel bins"
    yield (
        "patches",
        f"{_product(shape['patch'])} (mel bins x frames) every {_product(shape['strides'])}: grid "
        f"{_product(shape['grid'])}, {shape['tokens']} tokens",
    )
    yield "window", f"{described['window_s']:.5g} s"
    yield "encoder", _pairs(described["encoder"])
    front_end = dict(described["front_end"])
    yield "front end", f"{front_end.pop('class')}: {_pairs(front_end)}"
    first = ", ".join(labels["first"]) + (", ..." if labels["number"] > len(labels["first"]) else "")
    kind = labels["problem_type"] or "problem type not stated"
    yield "labels", f"{labels['number']} ({kind}): {first}" if labels["number"] else "none: no classifier"
    if cells := described["cells"]:
        yield "cells", f"{cells['number']} in a clip of full length, {1000 * cells['length_s']:.4g} ms each"
    yield (
        "layer-norm epsilon",
        f"{epsilon['layers']:g} in the layers, {epsilon['head']:g} in the head ({epsilon['source']})",
    )
    yield "licence", described["license"] or "not stated"
    yield "parameters", f"{described['parameters']:,}, {described['memory_bytes'] / MB:.1f} MB in float32"
    if weights := described["weights"]:
        dtypes = ", ".join(f"{number:,} values of {dtype}" for dtype, number in weights["dtypes"].items())
        yield "weights", f"{dtypes}, {weights['bytes'] / MB:.1f} MB"
    yield from _origin_rows(described["provenance"], described["changed"])


def _of_entry(checkpoint: Any) -> dict[str, Any]:
    """Describe a released checkpoint by its entry in the registry."""
    from hf_ast.inference.description import describe_parts

    described = describe_parts(
        checkpoint.build_config(),
        checkpoint.build_feature_extractor(),
        architecture=None if checkpoint.label_set else _architecture(checkpoint),
    )
    described["epsilon"]["source"] = "the official values of the family"
    provenance = {"checkpoint": checkpoint.name, "source": {"url": checkpoint.urls[0]}}
    return described | {
        "layout": "official; not downloaded yet",
        "weights": {},
        "license": checkpoint.license,
        "provenance": provenance,
        "changed": None,
    }


def _architecture(checkpoint: Any) -> str:
    """Class of a released checkpoint without a classifier."""
    return {"ssast": "SSASTForPreTraining", "passt": "PaSSTModel"}.get(checkpoint.family, "HfASTModel")


def _origin(path: str | Path, **hub: Any) -> dict[str, Any]:
    """Licence and provenance of a folder or Hub id.

    Raises:
        ValueError: The record of the conversion is damaged.
    """
    from hf_ast.conversion.folders import changed_files, find_provenance
    from hf_ast.training.cards import source_license

    provenance = find_provenance(path, **hub)
    # The files of a model on the Hub are not here
    changed = changed_files(Path(path), provenance) if provenance is not None and Path(path).is_dir() else None
    return {"license": source_license(str(path), **hub), "provenance": provenance, "changed": changed}


def _origin_rows(provenance: Mapping[str, Any] | None, changed: list[str] | None) -> Iterator[tuple[str, str]]:
    from hf_ast.conversion.assumptions import format_assumptions

    if provenance is None:
        yield "origin", "not recorded: there is no conversion.json"
        return
    source = provenance.get("source", {})
    yield "origin", ", ".join(str(value) for value in (provenance.get("checkpoint"), *source.values()) if value)
    for name in ("changes", "front_end_changes"):
        if provenance.get(name):
            yield name.replace("_", " "), _pairs(provenance[name])
    if "hf_ast" in provenance:
        verification = provenance.get("verification")
        proved = "nothing: `hf-ast verify` compares it with the official file"
        if verification is not None:
            proved = (
                "all tensors, and a forward pass"
                if verification["passed"]
                else "nothing: " + "; ".join(verification["problems"])
            )
        if changed:
            proved = f"nothing: changed since the conversion: {', '.join(changed)}"
        elif changed is None:
            proved += " (by its record; the files were not compared with it)"
        yield "proved", proved
        yield "assumed", format_assumptions(provenance.get("assumed") or {}) or "nothing"


def _product(sizes: list[int]) -> str:
    return " x ".join(map(str, sizes))


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items() if not isinstance(value, Mapping))
