"""Convert a checkpoint file of the official code, verify the result, and open it with transformers.

python examples/convert_file.py FILE NAME OUT

NAME is the released checkpoint that FILE is, or resembles; `hf-ast checkpoints` lists all names.
"""

import sys
from pathlib import Path

from transformers import AutoModel, PreTrainedModel

from hf_ast.conversion.folders import convert_file
from hf_ast.conversion.registry import find
from hf_ast.conversion.verify import verify_folder


def main(file: str, name: str, out: str) -> PreTrainedModel:
    """Convert `file` into the folder `out`, and return the model, if the folder passes its verification."""
    checkpoint = find(name)
    folder = convert_file(Path(file), checkpoint, Path(out))
    verification = verify_folder(folder, Path(file))
    if not verification.passed:
        raise ValueError("\n".join(verification.problems))
    return AutoModel.from_pretrained(folder)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
