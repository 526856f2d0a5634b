"""PaSST: a file of kkoutini/PaSST -> a folder that transformers opens, step by step.

    python conversion/convert_passt.py passt-s-f128-p16-s10-ap.476-swa.pt passt-s-s10-audioset-0.476-swa OUT [raw]

The second argument is the released checkpoint that the file is or resembles; `hf-ast checkpoints passt` lists them. It
is as in convert_ast.py, except for what is particular to PaSST.
"""

import sys
from pathlib import Path

from hf_ast import PaSSTConfig
from hf_ast.conversion.containers import unwrap
from hf_ast.conversion.convert import build_model
from hf_ast.conversion.files import CheckpointFile
from hf_ast.conversion.key_maps import Dropped, look_up
from hf_ast.conversion.layouts import LAYOUTS
from hf_ast.conversion.registry import find


def main(file: str, name: str, out: str, weights: str | None = None) -> None:
    """Convert a file of PaSST."""
    # Read. Released files are plain. What PaSST's own training saves has the model twice, as "net" and, averaged over
    # the training, as "net_swa", beside buffers of the front end and the state of the optimiser
    found = unwrap(CheckpointFile(Path(file)).content, LAYOUTS[PaSSTConfig], weights)
    print(f"{len(found.tensors)} tensors in {'.'.join(found.containers) or 'nothing else'} {found.weights}")
    for what, content in found.left_out.items():
        print(f"  left out: {what}, {content}")

    # The key map. There is a second head, "head_dist", that no forward pass of the official code uses
    for key in found.tensors:
        target, _ = look_up(key, found.layout.key_map)
        if isinstance(target, Dropped):
            print(f"  left out: {key}, {target.reason}")

    # The config. Positions are the sum of one table per row and one per column, so that any part of a clip has its own
    checkpoint = find(name)
    config = checkpoint.build_config()
    print(f"{config.position_grid} positions, strides {config.strides}, {config.num_labels} labels")

    # The model. The tables are (1, D, F', 1) and (1, D, 1, T') in the file; ours have the features last, as all tokens
    model = build_model(found, config)

    # The front end: PaSST's own log-mel spectrogram at 32 kHz, normalised as (x + 4.5) / 5
    front_end = checkpoint.build_feature_extractor()
    model.save_pretrained(out)
    front_end.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
