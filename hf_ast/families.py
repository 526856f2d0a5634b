"""The table of families: their names, model types and classes. Data only; whoever needs such a fact reads it here.

Not here is what only the converter has: layouts (`conversion.layouts`) and checkpoints (`conversion.registry`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models; its classes are given as "file:class" in `hf_ast/models`.

    Args:
        name: Name in the registry, in commands and in tags.
        title: Name and what it stands for, as in the papers.
        front_end: Tag of the front end in model cards.
        model_type: What `config.json` says.
        config: Class of the config.
        feature_extractor: Class of the feature extractor.
        models: Name of transformers' mapping -> class of the model; empty for models that open as the family before it
            that has the same model type, with a front end of their own.
    """

    name: str
    title: str
    front_end: str
    model_type: str
    config: str
    feature_extractor: str
    models: dict[str, str]


FAMILIES = (
    Family(
        name="ast",
        title="AST (Audio Spectrogram Transformer)",
        front_end="kaldi-fbank",
        model_type="hf-ast",
        config="configuration_ast:HfASTConfig",
        feature_extractor="feature_extraction_ast:HfASTFeatureExtractor",
        models={
            "MODEL_MAPPING": "modeling_ast:HfASTModel",
            "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING": "modeling_ast:HfASTForAudioClassification",
            "MODEL_FOR_AUDIO_FRAME_CLASSIFICATION_MAPPING": "modeling_ast:HfASTForAudioFrameClassification",
        },
    ),
    Family(
        name="passt",
        title="PaSST (Patchout faSt Spectrogram Transformer)",
        front_end="mel-spectrogram",
        model_type="passt",
        config="configuration_passt:PaSSTConfig",
        feature_extractor="feature_extraction_passt:PaSSTFeatureExtractor",
        models={
            "MODEL_MAPPING": "modeling_passt:PaSSTModel",
            "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING": "modeling_passt:PaSSTForAudioClassification",
            "MODEL_FOR_AUDIO_FRAME_CLASSIFICATION_MAPPING": "modeling_passt:PaSSTForAudioFrameClassification",
        },
    ),
    Family(
        name="ssast",
        title="SSAST (Self-Supervised Audio Spectrogram Transformer)",
        front_end="kaldi-fbank",
        model_type="ssast",
        config="configuration_ssast:SSASTConfig",
        feature_extractor="feature_extraction_ast:HfASTFeatureExtractor",
        models={
            "MODEL_MAPPING": "modeling_ssast:SSASTModel",
            "MODEL_FOR_PRETRAINING_MAPPING": "modeling_ssast:SSASTForPreTraining",
            "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING": "modeling_ssast:SSASTForAudioClassification",
            "MODEL_FOR_AUDIO_FRAME_CLASSIFICATION_MAPPING": "modeling_ssast:SSASTForAudioFrameClassification",
        },
    ),
    Family(
        name="fpasst",
        title="fPaSST (frame-wise Patchout faSt Spectrogram Transformer)",
        front_end="mel-spectrogram",
        model_type="fpasst",
        config="configuration_fpasst:FPaSSTConfig",
        feature_extractor="feature_extraction_fpasst:FPaSSTFeatureExtractor",
        models={
            "MODEL_MAPPING": "modeling_fpasst:FPaSSTModel",
            "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING": "modeling_fpasst:FPaSSTForAudioClassification",
            "MODEL_FOR_AUDIO_FRAME_CLASSIFICATION_MAPPING": "modeling_fpasst:FPaSSTForAudioFrameClassification",
        },
    ),
    Family(
        name="maest",
        title="MAEST (Music Audio Efficient Spectrogram Transformer)",
        front_end="mel-spectrogram",
        model_type="hf-ast",
        config="configuration_ast:HfASTConfig",
        feature_extractor="feature_extraction_maest:MAESTFeatureExtractor",
        models={},
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}
MODEL_TYPES = frozenset(family.model_type for family in FAMILIES)
