"""Model code: out of it, `save_pretrained` makes the files with which a Hub folder opens without the package.

The prefix of a file says its role: `modules_` is plain torch and works without transformers; `configuration_`,
`modeling_` and `feature_extraction_` are the transformers classes around it. Files import names from each other at the
top, `from .sibling import name`, which is what `hf_ast.remote_code` follows.

Symbols used in shapes:

    B   clips in a batch             F'  rows of the patch grid (frequency)
    S   samples of a waveform        T'  columns of the patch grid (time)
    T   frames of a spectrogram      P   prefix tokens (cls, distillation)
    M   mel bins                     N   tokens: P + F' * T', patches row by row
    C   classes                      D   hidden size
"""
