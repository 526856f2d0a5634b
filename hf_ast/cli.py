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

    from . import audio
    from .inference.tagging import load_classifier, tag_recording

    logging.disable_progress_bar()
    try:
        model, feature_extractor = load_classifier(args.model)
    except (OSError, ValueError) as error:
        print(f"hf-ast: --model {args.model}: {error}", file=sys.stderr)
        return 1
    results, failed = [], False
    for file in args.files:
        try:
            waveform, _ = audio.read(file, feature_extractor.sampling_rate)
            segments = tag_recording(
                model, feature_extractor, waveform, top_k=args.top_k, progress=sys.stderr.isatty()
            )
        except (OSError, ValueError) as error:
            print(f"hf-ast: {file}: {error}", file=sys.stderr)
            failed = True
            continue
        results.append((file, segments))
    print(as_json(results) if args.json else as_table(results))
    return 1 if failed else 0


def as_json(results: Sequence) -> str:
    """A list of files, each with its segments (start and end in seconds) and their labels."""
    return json.dumps(
        [
            {
                "file": file,
                "segments": [
                    {"start_s": s.start_s, "end_s": s.end_s, "labels": [tag._asdict() for tag in s.tags]}
                    for s in segments
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
            f"{segment.start_s:.1f}-{segment.end_s:.1f} s",
            "  ".join(f"{label} {score:.1%}" for label, score in segment.tags),
        )
        for file, segments in results
        for segment in segments
    ]
    lines.insert(0, ("file", "time", "labels"))
    name_width, time_width = (max(len(line[i]) for line in lines) for i in (0, 1))
    return "\n".join(f"{name:<{name_width}}  {time:>{time_width}}  {labels}" for name, time, labels in lines)


if __name__ == "__main__":
    sys.exit(main())
