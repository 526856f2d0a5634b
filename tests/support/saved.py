"""A tiny model of every class, and every front end, saved with two clips, for `opened.py`."""

from pathlib import Path

import numpy as np

from hf_ast import (
    FPaSSTFeatureExtractor,
    HfASTFeatureExtractor,
    MAESTFeatureExtractor,
    PaSSTFeatureExtractor,
    SSASTForAudioClassification,
)
from tests.support.tiny import (
    randomize,
    tiny_fpasst,
    tiny_fpasst_frames,
    tiny_frames,
    tiny_model,
    tiny_passt,
    tiny_ssast,
    tiny_ssast_config,
    waveforms,
)

MODELS = {
    "ast": (tiny_model, HfASTFeatureExtractor),
    "ast-frames": (tiny_frames, HfASTFeatureExtractor),
    "passt": (tiny_passt, PaSSTFeatureExtractor),
    "maest": (tiny_model, MAESTFeatureExtractor),  # opens as a model of AST
    "fpasst": (tiny_fpasst, FPaSSTFeatureExtractor),
    "fpasst-frames": (lambda: tiny_fpasst_frames(clip_head="attention"), FPaSSTFeatureExtractor),
    "ssast": (lambda: randomize(SSASTForAudioClassification(tiny_ssast_config(num_labels=5))), HfASTFeatureExtractor),
    "ssast-pretraining": (lambda: tiny_ssast(num_mask_patches=2), HfASTFeatureExtractor),
}
SAVED = tuple(MODELS)


def save_all(folder: Path) -> Path:
    """Save each into a folder with its name."""
    clips = waveforms(2, 8000).numpy()
    clips[1, 5600:] = np.nan
    for name, (make_model, front_end) in MODELS.items():
        model = make_model()
        model.save_pretrained(folder / name)
        front_end(num_mel_bins=32, max_length=model.config.max_length).save_pretrained(folder / name)
        np.save(folder / name / "waveforms.npy", clips)
    return folder
