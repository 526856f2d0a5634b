"""`python -m hf_ast.recipes.keywords`: train, embed and evaluate the keyword model that comes with the package."""

import argparse
import json
from pathlib import Path

from hf_ast.assets import EMBEDDED_MODEL
from hf_ast.recipes.keywords.sequences import train_frames
from hf_ast.recipes.keywords.spotting import frames_of, spot, windows_of
from hf_ast.recipes.keywords.training import embed, evaluate, report, save_recordings, train


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m hf_ast.recipes.keywords", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="train the model and save it")
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("frames", help="train a model that says when each word is heard, in minutes")
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("embed", help="copy a trained model into the package")
    command.add_argument("folder", type=Path, help="folder that `train` wrote")
    command = commands.add_parser("evaluate", help="measure the accuracy on held-out voices")
    command.add_argument("--model", default=EMBEDDED_MODEL, help="folder or Hub id (default: the embedded model)")
    command.add_argument("--seed", type=int, default=0, help="another seed gives other clips")
    command.add_argument("--json", action="store_true", help="print JSON")
    command = commands.add_parser("spot", help="measure how well words are found in recordings of a minute")
    command.add_argument("--model", default=EMBEDDED_MODEL, help="folder, Hub id or name; default: the embedded model")
    command.add_argument("--frames", type=Path, help="folder that `frames` wrote, to be measured, too")
    command.add_argument("--seed", type=int, default=0, help="another seed gives other recordings")
    arguments = parser.parse_args()
    if arguments.command == "train":
        train(arguments.out, arguments.seed)
        save_recordings(arguments.out / "recordings")
    elif arguments.command == "embed":
        embed(arguments.folder)
    elif arguments.command == "spot":
        ways = {"windows": windows_of(arguments.model)}
        if arguments.frames is not None:
            ways["frames"] = frames_of(arguments.frames)
        print(json.dumps(spot(ways, seed=arguments.seed), indent=2))
    elif arguments.command == "frames":
        train_frames(arguments.out, arguments.seed)
    else:
        result = evaluate(arguments.model, seed=arguments.seed)
        print(json.dumps(result, indent=2) if arguments.json else report(result))


if __name__ == "__main__":
    main()
