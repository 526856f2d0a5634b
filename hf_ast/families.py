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
        },
    ),
    Family(
        model_type="passt",
        config="configuration_passt:PaSSTConfig",
        feature_extractor="feature_extraction_passt:PaSSTFeatureExtractor",
        models={
            "MODEL_MAPPING": "modeling_passt:PaSSTModel",
            "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING": "modeling_passt:PaSSTForAudioClassification",
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
        },
    ),
)
# Front ends of models that open as one of these families: "file:class", registered by the name of the class alone
FEATURE_EXTRACTORS = ("feature_extraction_maest:MAESTFeatureExtractor",)
MODEL_TYPES = frozenset(family.model_type for family in FAMILIES)
