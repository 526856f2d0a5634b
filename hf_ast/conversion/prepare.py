"""Released checkpoints as converted and verified folders in the cache, made on first use."""

import errno
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from .cards import CARD, write_card
from .checkpoint import Checkpoint, file_name
from .downloads import default_cache, digest_problem, fetch
from .folders import changed_files, convert_file, describe_conversion, read_provenance
from .stamps import is_unchanged
from .verification import read_verification
from .verify import verify_folder

logger = logging.getLogger(__name__)


def prepare(checkpoint: Checkpoint, *, cache: Path | None = None) -> Path:
    """Return the folder of a checkpoint in the cache; `hf_ast.get_checkpoint` says when it is made anew.

    Args:
        checkpoint: An entry of the registry.
        cache: Folder; `default_cache()` if None.

    Raises:
        ValueError: The official file does not fit its registry entry, or the folder does not pass its verification.
        OSError: No URL gives the file, or the cache cannot be written.
    """
    cache = cache or default_cache()
    folder = converted_folder(checkpoint, cache)
    if is_ready(folder, checkpoint, cache=cache):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if not is_ready(folder, checkpoint, cache=cache):  # another process may have made it in the meantime
                _make(folder, checkpoint, cache=cache)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise OSError(
            error.errno,
            f"cache={str(cache)!r} cannot be written ({error.strerror}), and {checkpoint.name} is not ready in it; "
            "give another folder as `cache`, or by the environment variable HF_HOME",
            error.filename,
        ) from error
    return folder


def converted_folder(checkpoint: Checkpoint, cache: Path) -> Path:
    """Return where the cache holds a converted checkpoint, or will hold it."""
    return cache / "converted" / checkpoint.name


def is_ready(folder: Path, checkpoint: Checkpoint, *, cache: Path) -> bool:
    """Whether a folder holds the checkpoint as this version converts it, verified, and with no file changed since.

    The files are hashed once, and then again only if the file system says that one of them was changed (`stamps`). The
    card is written last: without it, a process was killed before.
    """
    if not (folder / CARD).is_file():
        return False
    try:
        provenance = read_provenance(folder)
        verification = read_verification(provenance)
    except (ValueError, NotADirectoryError):
        return False
    if verification is None or not verification.passed:
        return False
    source = provenance["source"]
    name = file_name(source["url"] or checkpoint.file_name)
    return (
        describe_conversion(checkpoint).items() <= provenance.items()
        and digest_problem(checkpoint, source["sha256"], name, cache=cache) is None
        and is_unchanged(folder, provenance.get("files", {}), stamps(folder))
    )


def stamps(folder: Path) -> Path:
    """Return where the cache records the stamps of the files in a folder, with which they need not be hashed again."""
    return folder.with_name(f".{folder.name}.stamps")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time make a folder. The system releases the lock of a killed process."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"{folder.name} is being made by another process; waiting for it ...", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(folder: Path, checkpoint: Checkpoint, *, cache: Path) -> None:
    """Download, convert, verify and describe a checkpoint; a folder that does not pass its verification is removed."""
    file, url = fetch(checkpoint, cache=cache)
    with _steps(checkpoint.name) as step:
        _set_aside_changes(folder)
        step("converting")
        convert_file(file, checkpoint, folder, url=url)
        step("verifying")
        verification = verify_folder(folder, file)
        if not verification.passed:
            shutil.rmtree(folder)
            problems = "; ".join(verification.problems)
            raise ValueError(
                f"{file.path}, converted as {checkpoint.name}, does not pass its verification: {problems}"
            )
        step("describing")
        write_card(folder)
        is_unchanged(folder, read_provenance(folder)["files"], stamps(folder))  # records them for the next call


def _set_aside_changes(folder: Path) -> None:
    """Rename a folder that was changed after its conversion, so that the changes are not lost."""
    if not folder.exists():
        return
    try:
        changed = changed_files(folder, read_provenance(folder))
    except (ValueError, NotADirectoryError):
        changed = ["conversion.json"]
    if changed:
        aside = folder.with_name(f"{folder.name}.changed")
        if aside.exists():
            shutil.rmtree(aside)
        folder.rename(aside)
        logger.warning(
            "%s was changed since its conversion (%s). It is now called %s; the checkpoint is converted again.",
            folder, ", ".join(changed), aside.name,
        )  # fmt: skip


@contextmanager
def _steps(name: str) -> Iterator[Callable[[str], None]]:
    """A progress bar over the three steps after the download, in place of those of transformers."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with tqdm(total=3, disable=None, leave=False, bar_format="{desc} [{n_fmt}/{total_fmt}, {elapsed}]") as bar:

            def step(what: str) -> None:
                bar.update()
                bar.set_description_str(f"{name}: {what}")

            yield step
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
