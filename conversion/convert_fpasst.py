"""fPaSST: a file of fschmid56/PretrainedSED -> a folder that transformers opens, step by step.

    python conversion/convert_fpasst.py fpasst_strong_1.pt fpasst-base-audioset-strong OUT

The second argument is the released checkpoint that the file is or resembles; `hf-ast checkpoints fpasst` lists them.
It is as in convert_ast.py, except for what is particular to fPaSST.
"""

import sys
from pathlib import Path

from hf_ast import FPaSSTConfig
from hf_ast.conversion.containers import unwrap
from hf_ast.conversion.convert import build_model
from hf_ast.conversion.files import CheckpointFile
from hf_ast.conversion.heads import head_labels
from hf_ast.conversion.layouts import LAYOUTS
from hf_ast.conversion.registry import find


def main(file: str, name: str, out: str, weights: str | None = None) -> None:
    """Convert a file of fPaSST."""
    # Read. Released files are plain; their names begin with "model.", those of the public model with "model.fpasst."
    found = unwrap(CheckpointFile(Path(file)).content, LAYOUTS[FPaSSTConfig], weights)
    print(f"{len(found.tensors)} tensors of {found.layout.name} in {'.'.join(found.containers) or 'nothing else'}")

    # The heads. A file may have one for frames, one for whole clips, both, or none; their sizes tell their classes
    labels = head_labels(found)
    print(f"{found.layout.model_class.__name__}, {len(labels.get('id2label', ()))} labels")

    # The config. One row of positions: a token for every 4 frames, 40 ms
    checkpoint = find(name)
    config = checkpoint.build_config(**labels)
    print(f"{config.position_grid} positions, {config.num_cells} cells of {config.cell_s} s")

    # The model. The tables are (1, D, 1, 1) and (1, D, 1, T') in the file; ours have the features last, as all tokens
    model = build_model(found, config)

    # The front end: fPaSST's own log-mel spectrogram at 16 kHz, normalised as (x + 4.5) / 5
    front_end = checkpoint.build_feature_extractor()
    model.save_pretrained(out)
    front_end.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
