"""The output folder of a training: states to resume from, the record of its data, and its way to the Hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

# In the output folder: saved states, and what they were trained on
CHECKPOINTS, RECORD = "checkpoints", "training.json"


def state_to_resume(output: Path, resume: bool) -> Path | None:
    """Return the folder of the state that a training continues from; None for a new one.

    Raises:
        ValueError: `resume` finds no state, or without it there are states of an earlier training.
    """
    if resume:
        return last_state(output)
    if saved_states(output):
        raise ValueError(
            f"output={str(output)!r} holds saved states of an earlier training; resume=True continues it, and a new "
            "one needs another folder."
        )
    return None


def last_state(output: Path) -> Path:
    """Return the folder of the last saved state that is complete; an error if there is none."""
    complete = saved_states(output)
    if not complete:
        raise ValueError(f"resume=True, but {str(output / CHECKPOINTS)!r} holds no saved state; start without it.")
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]))


def saved_states(output: Path) -> list[Path]:
    """List the folders of saved states that are complete."""
    # `Trainer` writes this file last, so that a state without it was being written when the training was killed
    return [path.parent for path in (output / CHECKPOINTS).glob(f"{PREFIX_CHECKPOINT_DIR}-*/trainer_state.json")]


def write_record(output: Path, record: dict[str, Any]) -> None:
    """Write down what a training is made with, as far as it follows from the data."""
    output.mkdir(parents=True, exist_ok=True)
    (output / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def expect_same_record(output: Path, record: dict[str, Any], names: Sequence[str]) -> None:
    """Raise a ValueError if what has one of these names was another one when the training began."""
    recorded = json.loads((output / RECORD).read_text(encoding="utf-8"))
    changed = [name for name in names if recorded[name] != record[name]]
    if changed:
        raise ValueError(
            f"resume=True, but the data have other {' and '.join(changed)} than when the training in {str(output)!r} "
            "began; give the same data and seed, or start without it."
        )


def create_repository(repo_id: str) -> None:
    """Make a repository on the Hub if it is not there yet: a name or token that does not work is an error now."""
    HfApi().create_repo(repo_id, exist_ok=True)


def upload(output: Path, repo_id: str, message: str) -> None:
    """Upload the output folder without its saved states."""
    HfApi().upload_folder(
        repo_id=repo_id,
        folder_path=output,
        ignore_patterns=[f"{CHECKPOINTS}/*", ".*"],
        commit_message=message,
    )
