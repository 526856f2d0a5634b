from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from hf_ast import HfASTForAudioClassification
from hf_ast.training.averaging import AveragingCallback, EMACallback, SWACallback, average_checkpoints
from tests.support.tiny import tiny_model

Weights = dict[str, Tensor]
# Float32 noise of a running mean of weights of about 0.3
CLOSE = {"atol": 1e-6, "rtol": 1e-6}


class Record(TrainerCallback):
    """The weights after every step."""

    def __init__(self) -> None:
        self.weights: list[Weights] = []

    def on_step_end(self, args, state, control, model, **kwargs) -> None:  # type: ignore[no-untyped-def]
        self.weights.append({name: p.detach().double().clone() for name, p in model.named_parameters()})


def train(
    folder: Path, callback: AveragingCallback, resume: str | None = None, **settings: Any
) -> tuple[HfASTForAudioClassification, list[Weights]]:
    """Two steps per epoch, three epochs; the record is of the steps that were run."""
    set_seed(0)
    model = tiny_model(problem_type="single_label_classification", num_hidden_layers=1)
    model.backbone.embeddings.requires_grad_(False)
    record = Record()
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=2, num_train_epochs=3, learning_rate=0.01, save_steps=2,
        report_to="none", use_cpu=True, **settings,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    data = [{"input_values": torch.randn(50, 32, generator=generator), "labels": n % 5} for n in range(4)]
    Trainer(model, arguments, train_dataset=data, eval_dataset=data, callbacks=[callback, record]).train(
        resume_from_checkpoint=resume
    )
    return model, record.weights


def exponential(weights: list[Weights], decay: float) -> Weights:
    average = weights[0]
    for current in weights[1:]:
        average = {name: decay * average[name] + (1 - decay) * current[name] for name in current}
    return average


def mean(weights: list[Weights]) -> Weights:
    return {name: sum(current[name] for current in weights) / len(weights) for name in weights[0]}


CASES: dict[str, tuple[Callable[..., AveragingCallback], Callable[[list[Weights]], Weights]]] = {
    "ema": (lambda **kwargs: EMACallback(0.8, **kwargs), lambda weights: exponential(weights, 0.8)),
    # Ends of the epochs; two of them lie before the interruption
    "swa": (lambda **kwargs: SWACallback(1, **kwargs), lambda w: mean([w[1], w[3], w[5]])),
    "swa-late": (lambda **kwargs: SWACallback(2, **kwargs), lambda w: mean([w[3], w[5]])),
    "swa-every-second": (lambda **kwargs: SWACallback(1, 2, **kwargs), lambda w: mean([w[1], w[5]])),
}


@pytest.mark.parametrize("case", CASES)
def test_the_model_ends_with_the_average_also_after_an_interruption(case: str, tmp_path: Path) -> None:
    make, definition = CASES[case]
    callback = make()
    model, weights = train(tmp_path / "whole", callback)
    expected = definition(weights)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], **CLOSE, msg=name)
    assert set(callback.average) == {name for name, p in model.named_parameters() if p.requires_grad}
    saved = load_file(tmp_path / "whole" / "checkpoint-6" / callback.FILE_NAME)
    torch.testing.assert_close(saved, callback.average, atol=0, rtol=0)

    resumed, _ = train(tmp_path / "whole", make(), resume=str(tmp_path / "whole" / "checkpoint-4"))
    torch.testing.assert_close(resumed.state_dict(), model.state_dict(), atol=0, rtol=0)


def test_resuming_from_another_folder_and_without_an_average(tmp_path: Path) -> None:
    model, _ = train(tmp_path / "first", EMACallback(0.8))
    checkpoint = tmp_path / "first" / "checkpoint-4"
    with pytest.raises(ValueError, match=r"ema\.safetensors' does not exist.*resume_from="):
        train(tmp_path / "second", EMACallback(0.8), resume=str(checkpoint))
    resumed, _ = train(tmp_path / "second", EMACallback(0.8, resume_from=checkpoint), resume=str(checkpoint))
    torch.testing.assert_close(resumed.state_dict(), model.state_dict(), atol=0, rtol=0)


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="load_best_model_at_end=True would be undone by EMACallback"):
        train(tmp_path, EMACallback(), load_best_model_at_end=True, eval_strategy="steps", eval_steps=2)
    with pytest.raises(ValueError, match=r"decay=1\.0"):
        EMACallback(1.0)
    with pytest.raises(ValueError, match="first_epoch=0"):
        SWACallback(0)


def test_checkpoints_are_averaged_as_in_the_official_code(tmp_path: Path) -> None:
    models = [tiny_model(seed) for seed in range(3)]
    for number, model in enumerate(models):
        # The last one in several files
        model.save_pretrained(tmp_path / str(number), max_shard_size="20KB" if number == 2 else "5GB")
    assert len(list((tmp_path / "2").glob("model*.safetensors"))) > 1
    averaged = average_checkpoints([tmp_path / str(number) for number in range(3)])
    model = tiny_model(5)
    model.load_state_dict(averaged)
    states = [one.state_dict() for one in models]
    for name, tensor in model.state_dict().items():
        expected = sum(state[name].double() for state in states) / 3
        torch.testing.assert_close(tensor, expected.float(), atol=0, rtol=0, msg=name)


def test_averaging_of_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folders is empty"):
        average_checkpoints([])
    tiny_model().save_pretrained(tmp_path / "one")
    with pytest.raises(ValueError, match=r"holds no model\.safetensors"):
        average_checkpoints([tmp_path / "one", tmp_path])
    for changes, message in (({"num_labels": 7}, "shapes of tensors"), ({"num_hidden_layers": 1}, "layers")):
        tiny_model(**changes).save_pretrained(tmp_path / "other")
        with pytest.raises(ValueError, match=f"hold different models: .*{message}"):
            average_checkpoints([tmp_path / "one", tmp_path / "other"])
