"""`hf-ast`: the command line."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .assets import EMBEDDED_MODEL


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 1 with a message on stderr."""
    parser = argparse.ArgumentParser(prog="hf-ast", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_classify(commands)
    add_pretrain(commands)
    args = parser.parse_args(arguments)
    return args.run(args)


def add_classify(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "classify",
        help="label recordings",
        description="Label recordings. A recording longer than the model's input is labelled window by window.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="recording in any format that libsndfile reads")
    parser.add_argument("--model", default=str(EMBEDDED_MODEL), help="Hub id or folder (default: the embedded model)")
    parser.add_argument("--top-k", type=positive, default=3, metavar="K", help="labels per window (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=classify)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def classify(args: argparse.Namespace) -> int:
    """Label the files one after the other; a file that cannot be read does not stop the others."""
    from transformers.utils import logging

    from .inference.loading import load_classifier
    from .inference.tagging import tag

    logging.disable_progress_bar()
    try:
        model, feature_extractor = load_classifier(args.model)
    except (OSError, ValueError) as error:
        print(f"hf-ast: --model {args.model}: {error}", file=sys.stderr)
        return 1
    results, failed = [], False
    for file in args.files:
        try:
            tagging = tag(model, feature_extractor, file, progress=sys.stderr.isatty())
        except (OSError, ValueError) as error:
            print(f"hf-ast: {file}: {error}", file=sys.stderr)
            failed = True
            continue
        segments = zip(tagging.window_times_s.tolist(), tagging.window_top(args.top_k), strict=True)
        results.append((file, list(segments)))
    print(as_json(results) if args.json else as_table(results))
    return 1 if failed else 0


def as_json(results: Sequence) -> str:
    """A list of files, each with its segments (start and end in seconds) and their labels."""
    return json.dumps(
        [
            {
                "file": file,
                "segments": [
                    {"start_s": start_s, "end_s": end_s, "labels": [tag._asdict() for tag in tags]}
                    for (start_s, end_s), tags in segments
                ],
            }
            for file, segments in results
        ],
        indent=2,
    )


def as_table(results: Sequence) -> str:
    """One line per window: file, time, labels with their probabilities."""
    lines = [
        (
            Path(file).name,
            f"{start_s:.1f}-{end_s:.1f} s",
            "  ".join(f"{label} {score:.1%}" for label, score in tags),
        )
        for file, segments in results
        for (start_s, end_s), tags in segments
    ]
    lines.insert(0, ("file", "time", "labels"))
    name_width, time_width = (max(len(line[i]) for line in lines) for i in (0, 1))
    return "\n".join(f"{name:<{name_width}}  {time:>{time_width}}  {labels}" for name, time, labels in lines)


def add_pretrain(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "pretrain",
        help="pretrain an SSAST on recordings without labels",
        description="Pretrain an SSAST on recordings in any format that libsndfile reads, without labels.",
    )
    parser.add_argument("folder", metavar="DIR", help="recordings, in any subfolder")
    parser.add_argument("--output", default="ssast", help="folder for the result (default: ssast)")
    sizes, kinds = ("tiny", "small", "base"), ("patch", "frame")
    parser.add_argument("--config", dest="size", choices=sizes, default="tiny", help="model size (default: tiny)")
    parser.add_argument("--kind", choices=kinds, default="patch", help="shape of the patches (default: patch)")
    parser.add_argument("--model", help="SSAST checkpoint to start from, instead of --config and --kind")
    parser.add_argument("--duration", dest="duration_s", type=float, default=10.24, help="seconds per crop")
    parser.add_argument("--steps", dest="num_steps", type=int, default=100_000, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, default=24, help="crops per step and device")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--eval-every", type=int, default=1000, help="steps between evaluations and saved states")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that read audio")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue from the last state saved in --output")
    parser.set_defaults(run=pretrain)


def pretrain(args: argparse.Namespace) -> int:
    """Pretrain; the arguments are those of `training.pretraining.pretrain`."""
    from .training import pretraining

    values = {name: value for name, value in vars(args).items() if name not in ("folder", "output", "run")}
    try:
        pretraining.pretrain(args.folder, args.output, **values)
    except (OSError, ValueError) as error:
        print(f"hf-ast: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
