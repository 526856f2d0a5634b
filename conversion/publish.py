"""A verified folder -> a repository on the Hub. `HF_ENDPOINT` and `HF_TOKEN` are huggingface_hub's."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from .cards import write_card
from .folders import changed_files, read_provenance
from .verification import read_verification


def publish_folder(folder: Path, repo_id: str, *, private: bool = False) -> str:
    """Upload a converted folder, with a fresh card, in one commit; without changes there is no commit.

    Args:
        folder: Made by `convert_file` and verified.
        repo_id: "namespace/name" of the repository; made if it is not there. What else it holds stays.
        private: Whether a new repository is private.

    Returns:
        URL of the repository.

    Raises:
        ValueError: No conversion made the folder, it is not verified, or a file that `from_pretrained` reads was
            changed since.
        HfHubHTTPError: The Hub refuses, for want of a token for example.
    """
    provenance = read_provenance(folder)
    verification = read_verification(provenance)
    if verification is None or not verification.passed:
        state = "is not verified"
        if verification is not None:
            state = f"failed its verification ({'; '.join(verification.problems)})"
        raise ValueError(
            f"folder={str(folder)!r} {state}, and only a proven conversion is published; run `hf-ast verify "
            f"{folder}` first."
        )
    if changed := changed_files(folder, provenance):
        raise ValueError(
            f"folder={str(folder)!r} is not as its conversion left it: {', '.join(changed)} changed since."
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
    url = hub.create_repo(repo_id, private=private, exist_ok=True)
    # Not upload_folder, which may split a folder into several commits
    hub.create_commit(
        repo_id,
        additions,
        commit_message=f"{source['file']} (sha256 {source['sha256']}), converted by hf_ast {provenance['hf_ast']}",
    )
    return str(url)
