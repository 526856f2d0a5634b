"""The output folder of a training run: its lock, states to resume from, the record of the run, and its upload."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub import HfApi
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import CONFIG_NAME

from hf_ast.data.labelled import Clip
from hf_ast.hub import upload_timeout
from hf_ast.whole import whole_file

# In the output folder: saved states, and what they were trained on
CHECKPOINTS, RECORD = "checkpoints", "training.json"
# In a saved state: written when all of its other files are complete
COMPLETE = "complete"
# Hidden, so that they are not uploaded: the result while it is being saved, and the lock of the run
STAGED, LOCK = ".result", ".lock"


@contextmanager
def only_run(output: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made, and removed again if nothing comes into it.

    Of several processes of one run, the first one does this.

    Raises:
        ValueError: Another run is at work in the folder.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"output={str(output)!r}: another run is training into this folder; wait for its end, or choose another "
            "folder."
        ) from None
    try:
        yield
    finally:
        if [file.name for file in output.iterdir()] == [LOCK]:
            shutil.rmtree(output)
        lock.release()


def expect_other_folder(output: Path, model: str | os.PathLike[str] | None) -> None:
    """Raise a ValueError if training would overwrite the model that it starts from."""
    if model is None or not Path(model).is_dir():
        return
    target, source = output.resolve(), Path(model).resolve()
    if target == source or target in source.parents:
        raise ValueError(
            f"output={str(output)!r} would overwrite model={str(model)!r}, from which training starts; choose another "
            "folder."
        )


def state_to_resume(output: Path, resume: bool) -> Path | None:
    """Return the folder of the state from which training continues; None to start anew.

    Raises:
        ValueError: `resume` finds no state, or, without it, there are states of an earlier run, or a model.
    """
    if resume:
        return last_state(output)
    if saved_states(output):
        raise ValueError(
            f"output={str(output)!r} holds saved states of an earlier run; resume=True continues it, and a new one "
            "needs another folder."
        )
    if (output / CONFIG_NAME).exists():
        raise ValueError(f"output={str(output)!r} holds a model already; choose another folder, or remove it.")
    return None


def last_state(output: Path) -> Path:
    """Return the folder of the last complete saved state; raise a ValueError if there is none."""
    complete = saved_states(output)
    if not complete:
        raise ValueError(f"resume=True, but {str(output / CHECKPOINTS)!r} holds no saved state; start without it.")
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]))


def saved_states(output: Path) -> list[Path]:
    """List the folders of saved states that are complete."""
    return [file.parent for file in (output / CHECKPOINTS).glob(f"{PREFIX_CHECKPOINT_DIR}-*/{COMPLETE}")]


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
        publish(staged, output)
    trainer.accelerator.wait_for_everyone()


def publish(staged: Path, output: Path) -> None:
    """Move the files of a saved model to their place."""
    # The config goes last: without it, the folder does not open
    for file in sorted(staged.iterdir(), key=lambda file: file.name == CONFIG_NAME):
        file.replace(output / file.name)
    staged.rmdir()


def with_entries(file: Path, **entries: Any) -> None:
    """Set entries of a JSON file, such as those of a config that are known only after its model was saved."""
    values = json.loads(file.read_text(encoding="utf-8")) | entries
    with whole_file(file) as partial:
        partial.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def write_record(output: Path, record: dict[str, Any]) -> None:
    """Write the record of a run: its data and settings."""
    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / RECORD) as partial:
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def expect_same_record(output: Path, record: dict[str, Any], names: Sequence[str]) -> None:
    """Raise a ValueError that names each of these entries that differs from the one when training began."""
    recorded = json.loads((output / RECORD).read_text(encoding="utf-8"))
    differences = list(_differences(recorded, json.loads(json.dumps(record)), names))
    if differences:
        raise ValueError(
            f"resume=True, but {'; '.join(differences)}. Give the same data and settings as when training in "
            f"{str(output)!r} began, or start anew in another folder."
        )


def _differences(before: dict[str, Any], now: dict[str, Any], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, sorted(old.keys() | new.keys()))
        elif max(len(str(old)), len(str(new))) > 60:  # lists of recordings or classes, and hashes
            yield f"{name} differs from what it was"
        else:
            yield f"{name} was {old!r}, and now is {new!r}"


def digest(clips: Sequence[Clip]) -> str:
    """Return a hash that changes with the recordings, their classes, lengths or splits."""
    content = [(clip.title, clip.index, clip.labels, clip.split, clip.duration_s) for clip in clips]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def source_name(model: str | os.PathLike[str]) -> str:
    """What a model is called in the record: the whole path of a folder, or else its name."""
    return str(Path(model).resolve()) if Path(model).is_dir() else str(model)


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
