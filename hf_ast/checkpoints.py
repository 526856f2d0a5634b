"""Models by name: released checkpoints, converted on first use, and everything that commands take as `--model`."""

import os
from pathlib import Path

from .hub import network_errors

# For the one request that asks the Hub whether it has a model
HUB_TIMEOUT_S = 5.0


def get_checkpoint(name: str, *, cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a released checkpoint, for `from_pretrained`.

    On first use, the official file is downloaded and converted, and the result is verified against it. Later calls
    find the folder in the cache and need no network. A folder from the cache is used if it passed its verification,
    no file in it was changed, and it was made by this version of `hf_ast`, from the current entry of the registry and
    from a file with the known digest. Otherwise it is made again; a folder that somebody changed is renamed, not lost.
    If several processes need the same folder, one makes it and the others wait.

    Args:
        name: Any name of a checkpoint, such as "passt_s_swa_p16_128_ap476" or "SSAST-Base-Patch-400.pth"; `hf-ast
            checkpoints` lists them. Case does not matter.
        cache: Folder for official files and converted folders; by default `hf_ast` in the folder that the environment
            variable `HF_HOME` names (~/.cache/huggingface).

    Raises:
        ValueError: No checkpoint has that name, the official file does not fit its registry entry, or the converted
            folder does not pass its verification.
        OSError: The file cannot be downloaded from any of its URLs, or the cache cannot be written.
    """
    from .conversion.prepare import prepare
    from .conversion.registry import find

    return prepare(find(name), cache=None if cache is None else Path(cache))


def resolve_model(
    name: str | os.PathLike[str], *, revision: str | None = None, token: str | bool | None = None
) -> str:
    """Return the folder or Hub id with which `from_pretrained` opens a given model.

    Args:
        name: A folder or the id of a model on the Hub, which is returned unchanged, or any name of a released
            checkpoint, for which the folder from `get_checkpoint` is returned. Names with a slash, such as
            "MIT/ast-finetuned-audioset-10-10-0.4593", are looked up on the Hub first.
        revision: Branch, tag or commit of a model on the Hub; its main branch if None.
        token: Access token of the Hub; the one that huggingface_hub finds if None.

    Raises:
        ValueError: The name is none of these, or has no such revision; only models on the Hub have revisions. The Hub
            is asked once, and only if the local cache lacks the model.
        OSError: As in `get_checkpoint`.
    """
    name = os.fspath(name)
    if Path(name).is_dir():
        if revision is not None:
            raise ValueError(f"revision={revision!r} is for models on the Hub, but model={name!r} is a folder.")
        return name
    if Path(name).is_file():
        raise ValueError(f"model={name!r} is a file; `hf-ast convert` turns a checkpoint file into a folder.")
    from .conversion import registry

    released = name.lower() in registry.ALIASES
    if released and "/" not in name:
        if revision is not None:
            raise ValueError(
                f"revision={revision!r} is for models on the Hub, but model={name!r} is a released checkpoint, which "
                "has one version."
            )
        return str(get_checkpoint(name))
    problem = _hub_problem(name, revision, token)
    if problem is None:
        return name
    if released and revision is None:
        return str(get_checkpoint(name))
    if revision is not None:
        raise ValueError(f"model={name!r}, revision={revision!r} is not {problem}.")
    raise ValueError(
        f"model={name!r} is neither a folder nor a released checkpoint{registry.close_names(name)}, nor {problem}."
    )


def classifier_names() -> list[str]:
    """Return the names of the released checkpoints that have a classification head."""
    from .conversion.registry import CHECKPOINTS

    return [item.name for item in CHECKPOINTS.values() if item.label_set is not None]


def _hub_problem(repo_id: str, revision: str | None, token: str | bool | None) -> str | None:
    """Say why there is no model with that id and revision, in the local cache or on the Hub; None if there is one."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        in_cache = try_to_load_from_cache(repo_id, "config.json", revision=revision)
    except HFValidationError:
        return "a valid Hub id"
    if isinstance(in_cache, str):
        return None
    if constants.HF_HUB_OFFLINE:
        return "in the local cache of the Hub, and HF_HUB_OFFLINE forbids asking the Hub"
    try:
        # Unlike downloads, this request is not retried
        HfApi().model_info(repo_id, revision=revision, token=token, timeout=HUB_TIMEOUT_S)
    except RepositoryNotFoundError:
        return "a model on the Hub that you can access"
    except RevisionNotFoundError:
        return "a branch, tag or commit of that model on the Hub"
    except Exception as error:
        if not isinstance(error, (OSError, *network_errors())):
            raise
        return f"in the local cache of the Hub, and the Hub cannot be reached ({type(error).__name__}: {error})"
    return None
