"""AST: a file of YuanGongND/ast -> a folder that transformers opens, step by step.

    python conversion/convert_ast.py audioset_10_10_0.4593.pth ast-base-s10-audioset-0.4593 OUT

The second argument is the released checkpoint that the file is or resembles; `hf-ast checkpoints ast` lists them. This
is what `hf-ast convert` does as well, with its checks of the folder, the card and the record of where it came from.
"""

import sys
from pathlib import Path

from hf_ast import HfASTConfig
from hf_ast.conversion.containers import unwrap
from hf_ast.conversion.convert import build_model, rename
from hf_ast.conversion.files import CheckpointFile
from hf_ast.conversion.layouts import LAYOUTS
from hf_ast.conversion.registry import find


def main(file: str, name: str, out: str) -> None:
    """Convert a file of AST."""
    # Read. The names look like "module.v.blocks.0.attn.qkv.weight": DataParallel's prefix, then timm's ViT as `v`
    content = CheckpointFile(Path(file)).content
    found = unwrap(content, LAYOUTS[HfASTConfig])
    print(
        f"{found.layout.name} layout: {len(found.tensors)} tensors, in {'.'.join(found.containers) or 'nothing else'}"
    )

    # The key map, hf_ast/conversion/key_maps.py, gives them our names: "backbone.layers.0.attention.qkv.weight". The
    # ImageNet heads of the ViT, which no spectrogram reaches, are left out by name; an unknown name is an error
    for key, tensor in list(rename(found.tensors, found.layout).items())[:5]:
        print(f"  {key} {tuple(tensor.shape)}")

    # The config: what the tensors do not say for themselves, such as strides and labels, is in the registry
    checkpoint = find(name)
    config = checkpoint.build_config()
    print(f"{config.grid[0]} x {config.grid[1]} patches, {config.num_labels} labels, {config.problem_type}")

    # The model. One table of positions, (1, 2 + F' T', D), becomes two: of the two class tokens, and of the patches.
    # Whatever is missing, left over, or of another shape is an error that names it
    model = build_model(found, config)

    # The front end: Kaldi's filter bank, with the mean and standard deviation of the data that the model has seen
    front_end = checkpoint.build_feature_extractor()
    print(f"{front_end.sampling_rate} Hz, mean {front_end.mean}, standard deviation {front_end.std}")

    # Save: weights, config, front end, and the code with which they open where hf_ast is not installed
    model.save_pretrained(out)
    front_end.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
