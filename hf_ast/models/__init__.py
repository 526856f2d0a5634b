"""Model code: these files also work when copied into a Hub repository, without the rest of the package.

That is how `save_pretrained` ships the code of a model, so the folder is flat and files import each other
only as siblings. The prefix of a file says its role: `modules_` is plain torch and works without
transformers; `configuration_`, `modeling_` and `feature_extraction_` are the transformers classes around it.

Symbols used in shapes:

    B   clips in a batch             F'  rows of the patch grid (frequency)
    S   samples of a waveform        T'  columns of the patch grid (time)
    T   frames of a spectrogram      P   prefix tokens (cls, distillation)
    M   mel bins                     N   tokens: P + F' * T', patches row by row
    C   classes                      D   hidden size
"""
