"""`hf-ast classify`."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_ast.text import visible

from .errors import for_each
from .files import Expanded, Recordings, expand_arguments
from .options import DEFAULT_MODEL, BatchOptions, Json, Model, with_options
from .output import results

if TYPE_CHECKING:
    from hf_ast.inference.tagging import Tag, Tagging


@with_options
def classify(
    files: Recordings,
    options: BatchOptions,
    model: Model = DEFAULT_MODEL,
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels, the most probable first.")] = 3,
    windows: Annotated[bool, typer.Option("--windows", help="Label every window of the model's length.")] = False,
    as_json: Json = False,
) -> None:
    """Label recordings of any length.

    Prints one line per recording, as soon as it is labelled, with its labels and their scores in the whole recording.
    With `--windows`, there is one line per window of the model's length, with its time.

    With `--json`, the result is an array with one object per recording: `file`, `duration_s`, and `labels`, each with
    `label` and `score`. With `--windows`, it also has `windows`, each with `start_s`, `end_s` and `labels`. A
    recording that cannot be labelled has `file` and `error`. The array is printed element by element, and is valid
    JSON even if Ctrl-C ends the command.
    """
    found = expand_arguments(files)
    with results(as_json) as add:
        for failure in found.failures:
            add(failure.as_data(), ())
        if found.files:
            _label(found, options, model, top_k, windows, add)
    if found.failures:
        raise typer.Exit(1)


def _label(
    found: Expanded,
    options: BatchOptions,
    model: str,
    top_k: int,
    windows: bool,
    add: Callable[[Any, Iterable[str]], None],
) -> None:
    """Load a model, label recordings, and add the results of each."""
    from hf_ast import tag

    classifier, feature_extractor = options.classifier(model)
    width = max(map(len, found.files))
    is_regression = classifier.config.problem_type == "regression"

    def label(file: str) -> None:
        tagging = tag(classifier, feature_extractor, file, batch_size=options.batch_size, progress=sys.stderr.isatty())
        lines = (
            f"{visible(file):<{width}}  {line}"
            for line in as_lines(tagging, top_k, windows, ".4g" if is_regression else ".1%")
        )
        add({"file": file} | as_data(tagging, top_k, windows), lines)

    for_each(found.files, label, lambda file, error: add(found.fail(file, error).as_data(), ()))


def as_lines(tagging: "Tagging", top_k: int, windows: bool, score_format: str = ".1%") -> Iterator[str]:
    """Format the labels and scores of the recording, or of each window."""
    if windows:
        for (start_s, end_s), tags in zip(tagging.window_times_s.tolist(), tagging.window_top(top_k), strict=True):
            yield f"{start_s:6.1f} - {end_s:6.1f} s  {_line(tags, score_format)}"
    else:
        yield _line(tagging.top(top_k), score_format)


def as_data(tagging: "Tagging", top_k: int, windows: bool) -> dict[str, Any]:
    """Return them as data for JSON."""
    data: dict[str, Any] = {"duration_s": tagging.duration_s, "labels": _data(tagging.top(top_k))}
    if windows:
        times = tagging.window_times_s.tolist()
        data["windows"] = [
            {"start_s": start_s, "end_s": end_s, "labels": _data(tags)}
            for (start_s, end_s), tags in zip(times, tagging.window_top(top_k), strict=True)
        ]
    return data


def _line(tags: Sequence["Tag"], score_format: str) -> str:
    return "  ".join(f"{visible(tag.label)} {tag.score:{score_format}}" for tag in tags)


def _data(tags: Sequence["Tag"]) -> list[dict[str, Any]]:
    return [{"label": tag.label, "score": tag.score} for tag in tags]
