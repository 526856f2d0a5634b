"""A folder as a model in the local cache of the Hub, as a download leaves it."""

import hashlib
import shutil
from pathlib import Path


def put_into_cache(folder: Path, hf_home: Path, repo_id: str) -> None:
    """Copy a folder into the cache of `HF_HOME`, so that it opens by its Hub id with `HF_HUB_OFFLINE=1`."""
    repository = hf_home / "hub" / f"models--{repo_id.replace('/', '--')}"
    commit = hashlib.sha1(repo_id.encode()).hexdigest()
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
