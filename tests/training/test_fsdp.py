"""`hf-ast finetune` with weights that FSDP2 shards over two processes, as `accelerate config` asks for it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForAudioClassification

from hf_ast import HfASTFeatureExtractor, HfASTForAudioClassification
from tests.support.labelled import write_folder
from tests.support.tiny import spectrograms, tiny_config

# Accelerate shards on accelerators only; this makes it shard on a CPU as well
PROGRAM = """
import sys
from pathlib import Path
from accelerate import state
from accelerate.utils import DistributedType
import torch
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback

begin = state.PartialState.__init__

def begin_on_cpu(self, *arguments, **settings):
    begin(self, *arguments, **settings)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_XPU

state.PartialState.__init__ = begin_on_cpu
from hf_ast.data.labelled import read_data
from hf_ast.training.finetune import finetune
from tests.support.tiny import spectrograms

class Record(TrainerCallback):
    def on_train_end(self, args, state, control, model, **settings):
        assert isinstance(model, FSDPModule)
        with torch.no_grad():
            logits = model.eval()(spectrograms(2, 50)).logits
        if state.is_world_process_zero:
            torch.save(logits, "logits")

done = finetune(
    read_data("sounds"), "out", model="start", batch_size=6, num_epochs=1, num_workers=0, callbacks=[Record()],
    duration_s=0.515,
)
assert (done.evaluation is not None) == done.is_main_process
"""


@pytest.mark.slow
@pytest.mark.parametrize("state_dict_type", ["FULL_STATE_DICT", "SHARDED_STATE_DICT"])
def test_two_processes_save_one_model(state_dict_type: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "sounds", num_clips=6)
    torch.manual_seed(0)
    HfASTForAudioClassification(tiny_config()).save_pretrained(tmp_path / "start")
    HfASTFeatureExtractor(num_mel_bins=32, max_length=50).save_pretrained(tmp_path / "start")
    (tmp_path / "program.py").write_text(PROGRAM)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    environment = os.environ | {
        "ACCELERATE_USE_FSDP": "true",
        "ACCELERATE_USE_CPU": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": state_dict_type,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    run = subprocess.run(
        [*torchrun, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr
    out = tmp_path / "out"
    opened, found = AutoModelForAudioClassification.from_pretrained(out, output_loading_info=True)
    assert not found["missing_keys"]
    with torch.no_grad():
        logits = opened(spectrograms(2, 50)).logits
    # The same products, whose operands lie elsewhere in memory
    torch.testing.assert_close(logits, torch.load(tmp_path / "logits"), atol=1e-6, rtol=1e-5)
    assert opened.config.architectures == ["HfASTForAudioClassification"]
    assert (out / "modeling_ast.py").is_file()
    assert not list(out.glob("_fsdp*"))
    assert (out / "metrics.json").is_file()
