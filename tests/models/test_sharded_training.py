"""Training with parameters sharded over two processes: the numbers of one process, and a checkpoint that opens.

Slow, because each process imports torch and transformers: `pytest -m slow tests/models/test_sharded_training.py`.
"""

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from hf_ast import HfASTForAudioClassification, PaSSTForAudioClassification, SSASTForPreTraining
from hf_ast.models.modeling_common import SpectrogramLayer
from hf_ast.models.modules_embeddings import SpectrogramEmbeddings
from tests.support.tiny import spectrograms, tiny_model, tiny_passt, tiny_ssast

NUM_PROCESSES, CLIPS_PER_PROCESS = 2, 2
NUM_CLIPS = NUM_PROCESSES * CLIPS_PER_PROCESS
FAMILIES = {
    "ast": (tiny_model, HfASTForAudioClassification),
    "passt": (partial(tiny_passt, position_crop="random"), PaSSTForAudioClassification),
    "ssast": (partial(tiny_ssast, num_mask_patches=5), SSASTForPreTraining),
}


def fsdp1(model: nn.Module) -> nn.Module:
    policy = ModuleWrapPolicy({SpectrogramLayer, SpectrogramEmbeddings})
    return FullyShardedDataParallel(
        model, auto_wrap_policy=policy, use_orig_params=True, device_id=torch.device("cpu")
    )


def fsdp2(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (NUM_PROCESSES,))
    for module in model.modules():
        if isinstance(module, SpectrogramLayer | SpectrogramEmbeddings):
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def whole_parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    """Gathered copies of all parameters, under the names of the model before sharding."""
    if isinstance(model, FullyShardedDataParallel):
        # Not its full state dict, whose hooks crash the process on a CPU (torch 2.13)
        with FullyShardedDataParallel.summon_full_params(model, writeback=False):
            return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))


WRAPPERS = {"fsdp1": fsdp1, "fsdp2": fsdp2}


def batch(family: str, clips: slice) -> dict[str, torch.Tensor]:
    """Clips shorter than the position table, one of them padded; SSAST with the patches to mask."""
    mask = torch.ones(NUM_CLIPS, 42, dtype=torch.long)
    mask[1, 30:] = 0
    inputs = {"input_values": spectrograms(NUM_CLIPS, 42)[clips], "attention_mask": mask[clips]}
    if family == "ssast":
        return inputs | {"mask_indices": torch.tensor([[0, 9, 3, 7]] * NUM_CLIPS)[clips]}
    return inputs | {"labels": torch.tensor([0, 3, 1, 4])[clips]}


def train_step(model: nn.Module, family: str, clips: slice) -> torch.Tensor:
    """One step of gradient descent on these clips; returns the loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(0)  # one random crop of the positions for all processes
    loss = model(**batch(family, clips)).loss
    loss.backward()
    optimizer.step()
    return loss.detach()


def work(rank: int, wrapper: str, family: str, folder: Path) -> None:
    """One of the processes: loads, shards, trains, and saves with the others."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=NUM_PROCESSES,
        timeout=timedelta(seconds=120),
    )
    torch.set_num_threads(1)
    model = FAMILIES[family][1].from_pretrained(folder / "before").train()
    sharded = WRAPPERS[wrapper](model)
    first = rank * CLIPS_PER_PROCESS
    loss = train_step(sharded, family, slice(first, first + CLIPS_PER_PROCESS))
    torch.save(loss, folder / f"loss-{rank}.pt")
    state = whole_parameters(sharded)
    if rank == 0:
        model.save_pretrained(folder / "after", state_dict=state)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_two_processes_give_the_weights_of_one(wrapper: str, family: str, tmp_path: Path) -> None:
    make_model, model_class = FAMILIES[family]
    model = make_model().train()
    model.save_pretrained(tmp_path / "before")
    torch.multiprocessing.spawn(work, (wrapper, family, tmp_path), nprocs=NUM_PROCESSES)

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected_loss = train_step(model, family, slice(0, NUM_CLIPS))
    losses = [torch.load(tmp_path / f"loss-{rank}.pt") for rank in range(NUM_PROCESSES)]
    # Sums over the batch in another order, in float32
    torch.testing.assert_close(sum(losses) / NUM_PROCESSES, expected_loss, atol=1e-6, rtol=1e-5)

    opened, found = model_class.from_pretrained(tmp_path / "after", output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    after = opened.state_dict()
    assert after.keys() == before.keys()
    assert max((after[name] - before[name]).abs().max() for name in before) > 1e-2
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-5, msg=name)
    # Another geometry, from the checkpoint that sharded training saved
    resized = model_class.from_pretrained(tmp_path / "after", max_length=66)
    inputs = batch(family, slice(0, 2)) | {"input_values": spectrograms(2, 42)}
    model.resize_input(max_length=66)
    with torch.no_grad():
        torch.testing.assert_close(resized.eval()(**inputs).loss, model.eval()(**inputs).loss, atol=1e-5, rtol=1e-5)
