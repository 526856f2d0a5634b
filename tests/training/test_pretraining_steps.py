"""The weights do not depend on how the clips of a step are divided, nor on interruptions."""

import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from hf_ast import HfASTFeatureExtractor
from hf_ast.training.crops import ClipMasks, Crops, collate_crops
from hf_ast.training.mixtures import Mixture, read_mixture
from hf_ast.training.output import last_state
from hf_ast.training.pretraining import pretrain
from hf_ast.training.pretraining_trainer import PretrainingTrainer
from tests.support.tiny import SIZE, tiny_ssast

WEIGHTS = [1.0, 1.5]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two sources of 5 noises and chirps each, of 0.3 to 0.7 s, so that most clips are padded and the longest cut."""
    folders = [tmp_path_factory.mktemp(name) for name in ("noises", "chirps")]
    rng = np.random.default_rng(0)
    for number in range(5):
        time = np.arange(round(16000 * (0.3 + 0.1 * number))) / 16000
        soundfile.write(folders[0] / f"{number}.wav", 0.1 * rng.standard_normal(len(time)), 16000)
        soundfile.write(folders[1] / f"{number}.wav", 0.3 * np.sin(2 * np.pi * 900 * number * time**1.5), 16000)
    return folders


def mixture_of(folders: list[Path]) -> Mixture:
    return read_mixture(folders, weights=WEIGHTS, num_eval=0)


def trained(
    folders: list[Path],
    output: Path,
    batch_size: int,
    num_accumulated: int = 1,
    *,
    own_masks: bool = True,
    resume: Path | None = None,
) -> dict[str, Tensor]:
    """Weights after ten steps of gradient descent, and the logs of each step.

    Adam would divide gradients that are zero but for rounding, such as those of the last bias of the classification,
    by their own size.
    """
    model = tiny_ssast(mask_ratio=0.5)
    extractor = HfASTFeatureExtractor(num_mel_bins=32, max_length=50, mean=-8.0, std=4.0)
    crops = Crops(mixture_of(folders), extractor, ClipMasks(model.config) if own_masks else None)
    assert len(crops) == 10
    arguments = TrainingArguments(
        output_dir=str(output),
        max_steps=10,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=num_accumulated,
        optim="sgd",
        learning_rate=0.1,
        save_steps=3,
        logging_steps=1,
        report_to="none",
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = PretrainingTrainer(model, arguments, train_dataset=crops, data_collator=collate_crops, callbacks=[crops])
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    names = ("loss", "classification_loss", "reconstruction_loss", "accuracy")
    return dict(model.state_dict()) | {name: torch.tensor([entry[name] for entry in logs]) for name in names}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert len(expected["loss"]) == 10
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        # Single precision, sums in another order: after ten steps weights differ by 1.2e-7, losses by 2e-6 of 17
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-6, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize(("own_masks", "batch_size"), [(True, 4), (False, 2)])
def test_accumulated_batches_are_one_batch(
    folders: list[Path], tmp_path: Path, own_masks: bool, batch_size: int
) -> None:
    """An epoch of ten clips is a step of 8 and one of 2, or batches of 4, 4 and 2, or of 2."""
    whole = trained(folders, tmp_path / "whole", 8, own_masks=own_masks)
    moved = (whole["backbone.embeddings.patch_embedding.projection.weight"] - start()).abs().max()
    assert moved > 4e-3  # thousands of times the tolerance
    assert_same(trained(folders, tmp_path / "parts", batch_size, 8 // batch_size, own_masks=own_masks), whole)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(folders: list[Path], tmp_path: Path) -> None:
    first, again = (trained(folders, tmp_path / name, 4) for name in ("first", "again"))
    torch.testing.assert_close(again, first, atol=0, rtol=0)


def start() -> Tensor:
    return tiny_ssast().backbone.embeddings.patch_embedding.projection.weight


def train_in_process(
    rank: int, port: int, folders: list[Path], output: Path, own_masks: bool, resume: Path | None
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    result = trained(folders, output, 4, own_masks=own_masks, resume=resume)
    if rank == 0:
        torch.save(result, output / "result")


@pytest.mark.slow
@pytest.mark.parametrize(("own_masks", "resume"), [(True, False), (False, True)])
def test_two_processes_are_one(folders: list[Path], tmp_path: Path, own_masks: bool, resume: bool) -> None:
    """Of the last two clips of an epoch, the second process has none, but takes part."""
    whole = trained(folders, tmp_path / "whole", 8, own_masks=own_masks)
    # From step 9, in the middle of an epoch, or from the start
    state = tmp_path / "whole" / "checkpoint-9" if resume else None
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    output = tmp_path / "two"
    torch.multiprocessing.spawn(train_in_process, (port, folders, output, own_masks, state), nprocs=2)
    assert_same(torch.load(output / "result"), whole)


class Stop(TrainerCallback):
    """Ends a training after its eighth step, by an error or by the signal that no process survives."""

    def __init__(self, *, kill: bool):
        self.kill = kill

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 8:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt


def run(folders: list[Path], output: Path, **settings: Any) -> None:
    torch.set_num_threads(1)  # the same in all processes
    pretrain(
        folders, output, weights=WEIGHTS, size="tiny", duration_s=0.48, num_steps=10, batch_size=3, eval_every=5,
        num_eval=2, config={"num_mel_bins": 32, "hidden_dropout_prob": 0.1, **SIZE}, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("kill", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["interrupted", "killed"])
def test_a_pretraining_that_was_cut_off_continues_as_if_nothing_had_happened(
    folders: list[Path], tmp_path: Path, kill: bool
) -> None:
    run(folders, tmp_path / "whole", num_workers=0)
    if kill:
        # With worker processes, which make no difference. Not forked: a CUDA build of torch trains in no fork
        process = multiprocessing.get_context("spawn").Process(
            target=run, args=(folders, tmp_path / "killed"), kwargs={"num_workers": 1, "callbacks": [Stop(kill=True)]}
        )
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    else:
        with pytest.raises(KeyboardInterrupt):
            run(folders, tmp_path / "killed", num_workers=0, callbacks=[Stop(kill=False)])
    assert last_state(tmp_path / "killed").name == "checkpoint-5"  # in the middle of the second epoch
    with pytest.raises(ValueError, match="holds saved states of an earlier run; resume=True continues it"):
        run(folders, tmp_path / "killed")
    with pytest.raises(ValueError, match="resume=True, but recordings differs from what it was; weights was"):
        pretrain(folders[0], tmp_path / "killed", resume=True)
    run(folders, tmp_path / "killed", num_workers=0, resume=True)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=0, rtol=0)
