"""The table of families: their model types and classes. Data only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models; its classes are given as "file:class" in `hf_ast/models`."""

    model_type: str
    config: str
    feature_extractor: str
    models: dict[str, str]


FAMILIES = (
    Family(
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
        model_type="fpasst",
        config="configuration_fpasst:FPaSSTConfig",
        feature_extractor="feature_extraction_fpasst:FPaSSTFeatureExtractor",
        models={
            "MODEL_MAPPING": "modeling_fpasst:FPaSSTModel",
            "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING": "modeling_fpasst:FPaSSTForAudioClassification",
            "MODEL_FOR_AUDIO_FRAME_CLASSIFICATION_MAPPING": "modeling_fpasst:FPaSSTForAudioFrameClassification",
        },
    ),
)
MODEL_TYPES = frozenset(family.model_type for family in FAMILIES)
