"""Upload the whole zoo to the Hub, or show the plan: what would be uploaded, and what is refused and why.

    python conversion/publish_all.py [--search WORDS] [--namespace NAME] [--cache DIR] [--private] [--publish]

Without `--publish` the plan is printed, and nothing is downloaded, converted or sent. A checkpoint that fails is
reported, the others follow, and the exit status is 1. What is done is in hf_ast/conversion/publish_all.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError

from hf_ast.conversion.checkpoint import HUB_NAMESPACE
from hf_ast.conversion.publish_all import plan, publish, table
from hf_ast.conversion.registry import search
from hf_ast.hub import network_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan, carry it out if asked to, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", default="", metavar="WORDS", help="only checkpoints with these words in a name")
    parser.add_argument("--namespace", default=HUB_NAMESPACE, help=f"user or organisation; {HUB_NAMESPACE} by default")
    parser.add_argument("--cache", type=Path, help="folder of official files and converted folders")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    parser.add_argument("--publish", action="store_true", help="carry the plan out")
    args = parser.parse_args(arguments)
    uploads = [plan(item, namespace=args.namespace, cache=args.cache) for item in search(words=args.search)]
    if not uploads:
        parser.error(f"--search {args.search!r} finds no checkpoint; `hf-ast checkpoints` lists them")
    print("\n".join(table(uploads)), flush=True)
    if not args.publish:
        print("Nothing was sent: this is the plan. --publish carries it out.")
        return 0
    num_failed = 0
    for upload in uploads:
        if upload.refusal:
            continue
        try:
            print(publish(upload, cache=args.cache, private=args.private), flush=True)
        except Exception as error:
            if not isinstance(error, (ValueError, OSError, HfHubHTTPError, *network_errors())):
                raise
            num_failed += 1
            print(f"{upload.checkpoint.name} failed: {error}", file=sys.stderr, flush=True)
    return int(num_failed > 0)


if __name__ == "__main__":
    sys.exit(main())
