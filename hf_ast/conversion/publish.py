"""Upload a verified folder to the Hub. huggingface_hub reads `HF_ENDPOINT` and `HF_TOKEN`."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from hf_ast.hub import upload_timeout

from .cards import write_card
from .checkpoint import Checkpoint
from .folders import changed_files, read_provenance
from .registry import find
from .verification import read_verification

# SPDX identifiers of licences that forbid commercial use; whoever takes weights from the Hub may not see that
NON_COMMERCIAL_LICENSES = frozenset({"CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"})


def license_refusal(checkpoint: Checkpoint) -> str:
    """Say why weights with the licence of a checkpoint are not published; "" if they are."""
    if not checkpoint.license:
        return f"no licence is stated ({checkpoint.license_note})"
    if checkpoint.license not in NON_COMMERCIAL_LICENSES:
        return ""
    return (
        f"{checkpoint.license} forbids commercial use; use the copy that its authors published. "
        f"{checkpoint.license_note}"
    )


def publish_folder(folder: Path, repo_id: str, *, private: bool = False) -> str:
    """Upload a converted folder, with a fresh card, in one commit; if nothing changed, nothing is committed.

    Args:
        folder: Made by `convert_file` and verified.
        repo_id: "namespace/name" of the repository, which is created if necessary. Other files in it are kept.
        private: Whether a new repository is private.

    Returns:
        URL of the repository.

    Raises:
        ValueError: The folder was not made by a conversion, did not pass a verification, or was changed after its
            conversion in a file that `from_pretrained` reads; or its licence forbids commercial use, or is not stated.
        HfHubHTTPError: The Hub refuses the upload, for example without a token.
        httpx2.TransportError, httpx.TransportError: The Hub cannot be reached, or is silent. The repository then has
            all or nothing.
    """
    provenance = read_provenance(folder)
    if refusal := license_refusal(find(provenance["checkpoint"])):
        raise ValueError(f"folder={str(folder)!r} is not published: {refusal}")
    verification = read_verification(provenance)
    if verification is None or not verification.passed:
        state = "is not verified"
        if verification is not None:
            state = f"failed its verification ({'; '.join(verification.problems)})"
        raise ValueError(
            f"folder={str(folder)!r} {state}, and only verified conversions are published; run `hf-ast verify "
            f"{folder}` first."
        )
    if changed := changed_files(folder, provenance):
        raise ValueError(
            f"folder={str(folder)!r} was changed after its conversion ({', '.join(changed)}); convert it again."
        )
    write_card(folder, repo_id)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    additions = [
        CommitOperationAdd(name.as_posix(), folder / name)
        for name in names
        if not any(part.startswith(".") for part in name.parts)
    ]
    source = provenance["source"]
    hub = HfApi()
    with upload_timeout():
        url = hub.create_repo(repo_id, private=private, exist_ok=True)
        # Not `upload_folder`, which may split a folder into several commits
        hub.create_commit(
            repo_id,
            additions,
            commit_message=f"{source['file']} (sha256 {source['sha256']}), converted by hf_ast {provenance['hf_ast']}",
        )
    return str(url)
