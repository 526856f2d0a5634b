"""SSAST: a file of YuanGongND/ssast -> a folder that transformers opens, step by step.

    python conversion/convert_ssast.py SSAST-Base-Patch-400.pth ssast-base-patch-400 OUT

The second argument is the released checkpoint that the file is or resembles; `hf-ast checkpoints ssast` lists them. It
is as in convert_ast.py, except for what is particular to models that were pretrained by masking patches.
"""

import sys
from pathlib import Path

from hf_ast import SSASTConfig
from hf_ast.conversion.containers import unwrap
from hf_ast.conversion.convert import build_model
from hf_ast.conversion.files import CheckpointFile
from hf_ast.conversion.key_maps import ConfigField, look_up
from hf_ast.conversion.layouts import LAYOUTS
from hf_ast.conversion.registry import find


def main(file: str, name: str, out: str) -> None:
    """Convert a file of SSAST."""
    # Read. The layout of pretraining has a "mask_embed"; a fine-tuned file has the names of AST instead
    found = unwrap(CheckpointFile(Path(file)).content, LAYOUTS[SSASTConfig])
    print(f"{found.layout.name} layout, which becomes a {found.layout.model_class.__name__}")

    # The key map. "cpredlayer" and "gpredlayer" are the heads of the two objectives: to recognise a masked patch, and
    # to reconstruct it. Two tensors hold single numbers, the size of the input, which are fields of our config
    for key, tensor in found.tensors.items():
        target, _ = look_up(key, found.layout.key_map)
        if isinstance(target, ConfigField):
            print(f"  {key} = {tensor.item()}, config.{target.name}")

    # The config: 16 x 16 patches, or frames of all 128 mel bins, without overlap; and how many of them are masked
    checkpoint = find(name)
    config = checkpoint.build_config()
    print(f"patches of {config.patch_size[0]} mel bins x {config.patch_size[1]} frames, {config.grid} of them")

    # The model. An objective that the file has no head for, or that the registry says was not used, is left out.
    # Fine-tuning replaces these heads by a classifier: AutoModelForAudioClassification.from_pretrained
    model = build_model(found, config)

    # The front end is AST's, and so is the rest
    front_end = checkpoint.build_feature_extractor()
    model.save_pretrained(out)
    front_end.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
