"""Any checkpoint as a model of the HEAR benchmark (https://hearbenchmark.com/hear-api.html).

`hear-eval-kit` and `hearvalidator` take the name of a module, and the model file as an option; here that is a folder,
an id on the Hub or the name of a released checkpoint:

    hear-validator hf_ast.inference.hear --model passt_s_swa_p16_128_ap476
    python -m heareval.embeddings.runner hf_ast.inference.hear --model MODEL --tasks-dir TASKS

Without a name, the embedded model is used. The embeddings are those of `scene_embeddings` and `timestamp_embeddings`,
which for a PaSST equal those of `hear21passt`.
"""

from torch import Tensor, nn

from hf_ast.assets import EMBEDDED_MODEL

from .embeddings import scene_embeddings, timestamp_embeddings
from .loading import load_encoder


class HearModel(nn.Module):
    """A model with the attributes that the benchmark reads.

    Args:
        model_file_path: See `hf_ast.load_encoder`; the embedded model if empty.
    """

    def __init__(self, model_file_path: str = ""):
        super().__init__()
        self.encoder, self.feature_extractor = load_encoder(model_file_path or EMBEDDED_MODEL)
        self.sample_rate: int = self.feature_extractor.sampling_rate
        self.scene_embedding_size: int = self.encoder.config.hidden_size
        self.timestamp_embedding_size: int = self.encoder.config.hidden_size


def load_model(model_file_path: str = "") -> HearModel:
    """Load a checkpoint; see `HearModel`."""
    return HearModel(model_file_path)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Clips (B, S) at `model.sample_rate` -> one embedding per clip (B, D)."""
    return scene_embeddings(model.encoder, model.feature_extractor, audio)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Clips (B, S) at `model.sample_rate` -> embeddings (B, K, D) every 50 ms, and their times (B, K) in ms."""
    return timestamp_embeddings(model.encoder, model.feature_extractor, audio)
