"""The output folder of a training run: states to resume from, the record of its data, and its upload to the Hub."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import CONFIG_NAME

from hf_ast.hub import upload_timeout
from hf_ast.whole import whole_file

# In the output folder: saved states, and what they were trained on
CHECKPOINTS, RECORD = "checkpoints", "training.json"
# The result while it is being saved; hidden, so that it is not uploaded
STAGED = ".result"


def state_to_resume(output: Path, resume: bool) -> Path | None:
    """Return the folder of the state from which training continues; None to start anew.

    Raises:
        ValueError: `resume` finds no state, or, without it, there are states of an earlier run.
    """
    if resume:
        return last_state(output)
    if saved_states(output):
        raise ValueError(
            f"output={str(output)!r} holds saved states of an earlier run; resume=True continues it, and a new one "
            "needs another folder."
        )
    return None


def last_state(output: Path) -> Path:
    """Return the folder of the last complete saved state; raise a ValueError if there is none."""
    complete = saved_states(output)
    if not complete:
        raise ValueError(f"resume=True, but {str(output / CHECKPOINTS)!r} holds no saved state; start without it.")
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]))


def saved_states(output: Path) -> list[Path]:
    """List the folders of saved states that are complete."""
    files = (output / CHECKPOINTS).glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}")
    return [file.parent for file in files if _is_complete(file)]


def _is_complete(file: Path) -> bool:
    """Whether a state is complete: `Trainer` writes this file last, and on a full disk only a part of it."""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def save_result(trainer: Trainer, output: Path) -> None:
    """Save the model and its feature extractor, so that the folder opens only once all of their files are complete.

    All processes of a run must call it.
    """
    staged = output / STAGED
    if trainer.is_world_process_zero():
        shutil.rmtree(staged, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(staged))
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        # The config goes last: without it, the folder does not open
        for file in sorted(staged.iterdir(), key=lambda file: file.name == CONFIG_NAME):
            file.replace(output / file.name)
        staged.rmdir()
    trainer.accelerator.wait_for_everyone()


def write_record(output: Path, record: dict[str, Any]) -> None:
    """Write the record of the data that a model is trained on."""
    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / RECORD) as partial:
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def expect_same_record(output: Path, record: dict[str, Any], names: Sequence[str]) -> None:
    """Raise a ValueError if an entry with one of these names differs from the one when training began."""
    recorded = json.loads((output / RECORD).read_text(encoding="utf-8"))
    changed = [name for name in names if recorded[name] != record[name]]
    if changed:
        raise ValueError(
            f"resume=True, but the data have other {' and '.join(changed)} than when training in {str(output)!r} "
            "began; give the same data and seed, or start without it."
        )


def create_repository(repo_id: str) -> None:
    """Create a repository on the Hub unless it exists, so that a wrong name or token is an error before training."""
    with upload_timeout():
        HfApi().create_repo(repo_id, exist_ok=True)


def upload(output: Path, repo_id: str, message: str) -> None:
    """Upload the output folder without its saved states."""
    with upload_timeout():
        HfApi().upload_folder(
            repo_id=repo_id,
            folder_path=output,
            ignore_patterns=[f"{CHECKPOINTS}/*", ".*"],
            commit_message=message,
        )
