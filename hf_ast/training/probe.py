"""A linear classifier on frozen embeddings: `hf-ast probe DATA --model NAME`, in seconds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_ast.checkpoints import resolve_model
from hf_ast.data import audio
from hf_ast.data.labelled import Clip, LabelledData
from hf_ast.data.splitting import TEST
from hf_ast.inference.devices import Device, find_device
from hf_ast.inference.embeddings import scene_embeddings
from hf_ast.models.feature_extraction_common import SpectrogramFeatureExtractor

from .baselines import NUM_PARTS, LinearClassifier, cross_validated
from .cards import TrainingFacts, source_license, write_results
from .data_checks import remarks
from .evaluate import Evaluation, evaluate
from .extras import expect_train
from .finetune import FineTuned
from .output import STAGED, expect_other_folder, only_run, publish, state_to_resume
from .preparation import load_for_training
from .presets import Preset


def probe(
    data: LabelledData,
    output: str | Path,
    *,
    model: str | Path,
    seed: int = 0,
    device: Device | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    progress: bool = False,
) -> FineTuned:
    """Fit a linear classifier to the embeddings of a model, and save both as one model, with its card and metrics.

    The classifier is scikit-learn's logistic regression with its default settings but for more iterations, on
    standardised embeddings of whole recordings (`probe_embeddings`). It is fitted to all recordings outside of the
    test split. The result is that on the test split, by the saved model; without one, that of a cross-validation.

    Args:
        data: The recordings; `hf_ast.data.labelled.read_data` finds them, best with `validation_fraction=0`.
        output: Folder for the result.
        model: As in `hf_ast.training.finetune.finetune`. All of it but its head stays as it is.
        seed: Seed of the parts of the cross-validation.
        device, revision, token: As in `hf_ast.load_classifier`.
        progress: Whether to show progress bars on stderr.

    Raises:
        ValueError: There are too few recordings, only one class, or `output` holds a model.
    """
    expect_train()
    output = Path(output)
    expect_other_folder(output, model)
    clips = [clip for clip in data.clips if clip.split != TEST]
    if len(clips) < 2 * NUM_PARTS or len(data.labels) < 2:
        raise ValueError(
            f"data has {len(clips)} recordings of {len(data.labels)} classes outside of the test split; a linear "
            f"classifier needs {2 * NUM_PARTS} recordings and two classes, at least."
        )
    with only_run(output):
        state_to_resume(output, resume=False)
        frozen = Preset(learning_rate=1.0, num_epochs=1, batch_size=1, time_patchout=0.0)
        network, feature_extractor, data = load_for_training(
            model, data, frozen, keeps_length=True, revision=revision, token=token
        )
        network.eval().to(find_device(device))
        clips = [clip for clip in data.clips if clip.split != TEST]
        embeddings = probe_embeddings(network, feature_extractor, data, clips, progress=progress)
        targets = data.targets(clips)
        set_head(network, LinearClassifier.fit(embeddings, targets, multi_label=data.multi_label))
        network.save_pretrained(output / STAGED)
        feature_extractor.save_pretrained(output / STAGED)
        publish(output / STAGED, output)
        said = list(remarks(data, needs_validation=False))
        split = TEST if data.of(TEST) else "cross-validation"
        if split == TEST:
            evaluation = evaluate(network, feature_extractor, data, split=TEST, with_baselines=True, progress=progress)
        else:
            scores = cross_validated(
                embeddings,
                targets,
                multi_label=data.multi_label,
                groups=[clip.group for clip in clips],
                seed=seed,
            )
            evaluation = Evaluation.of_scores(data, clips, scores, with_baselines=True)
        evaluation = replace(evaluation, remarks=[*evaluation.remarks, *said])
        facts = TrainingFacts(
            source=str(model),
            preset="probe",
            settings=None,
            num_steps=0,
            seed=seed,
            license=source_license(resolve_model(model, revision=revision, token=token), revision, token),
            license_is_inherited=True,
            best_step=None,
            remarks=said,
        )
        write_results(output, network, feature_extractor, data, evaluation, split, facts)
    return FineTuned(model=network, feature_extractor=feature_extractor, evaluation=evaluation, split=split)


def probe_embeddings(
    network: PreTrainedModel,
    feature_extractor: SpectrogramFeatureExtractor,
    data: LabelledData,
    clips: list[Clip],
    *,
    progress: bool = False,
) -> np.ndarray:
    """Return what the linear layer of a head gets for each recording, float64, shape (N, D).

    It is the layer norm, without a scale and shift of its own, of `hf_ast.scene_embeddings`.
    """
    reader, rate = data.source.reader(), feature_extractor.sampling_rate
    rows = []
    for clip in tqdm(clips, desc="Embedding", unit="file", disable=not progress):
        duration_s = None if clip.end_s is None else clip.duration_s
        with reader.open(clip.name, clip.index) as recording:
            waveform, _ = audio.read(recording, rate, start_s=clip.start_s, duration_s=duration_s)
        embedding = scene_embeddings(network, feature_extractor, waveform)
        eps = network.config.head_layer_norm_eps
        rows.append(torch.nn.functional.layer_norm(embedding, embedding.shape[-1:], eps=eps)[0].double().numpy())
    return np.stack(rows)


@torch.no_grad()
def set_head(network: Any, classifier: LinearClassifier) -> None:
    """Write a classifier on `probe_embeddings` into the head of a model."""
    head = network.classifier
    head.norm.weight.fill_(1.0)
    head.norm.bias.fill_(0.0)
    head.linear.weight.copy_(torch.from_numpy(classifier.weight))
    head.linear.bias.copy_(torch.from_numpy(classifier.bias))
