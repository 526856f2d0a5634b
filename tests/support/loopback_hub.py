"""A Hub on loopback, for the real clients of huggingface_hub and transformers.

It speaks the protocol of the Hub as far as they use it for models: repositories, the preupload question, LFS, commits,
listings, and downloads with a redirect for LFS files. Clients must have HF_HUB_DISABLE_XET=1: the protocol of Xet
storage is not spoken here.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub import ModelCard
from huggingface_hub.utils import sha, validate_repo_id

from tests.support.file_server import LoopbackServer

TOKEN = "hf_loopback"
# https://huggingface.co/docs/hub/repositories-licenses, those that are used here
LICENSES = {"apache-2.0", "bsd-3-clause", "cc-by-nc-sa-4.0"}
LFS_SUFFIXES = (".safetensors",)
LFS_SIZE = 10 * 2**20


@dataclass(frozen=True)
class File:
    """A committed file: its git object id, the sha256 of its content, its size."""

    oid: str
    sha256: str
    num_bytes: int
    lfs: bool


@dataclass
class Commit:
    oid: str
    message: str
    files: dict[str, File]


@dataclass
class Repository:
    private: bool
    commits: list[Commit] = field(default_factory=list)

    def find(self, revision: str) -> Commit | None:
        """A branch name, there is only main, or a commit."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.oid == revision), None)

    def commit(self, message: str, files: dict[str, File]) -> Commit:
        state = json.dumps([len(self.commits), message, sorted((path, file.oid) for path, file in files.items())])
        self.commits.append(Commit(hashlib.sha1(state.encode()).hexdigest(), message, files))
        return self.commits[-1]


class RefusedError(Exception):
    """An answer that is an error: status, and the code by which the clients tell errors apart."""

    def __init__(self, status: int, code: str, message: str, *, commit: str = "", url: str = ""):
        super().__init__(message)
        self.status = status
        self.body = {"error": message, "url": url}
        self.headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}


class LoopbackHub:
    """State of the server: repositories in memory, contents as files named by their sha256.

    Args:
        storage: Folder for the contents.
    """

    def __init__(self, storage: Path):
        self.storage = storage
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.lock = threading.Lock()
        self.url = ""
        # Of another origin, as the storage of the Hub: clients stop at redirects that leave it
        self.storage_url = ""

    def store(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        (self.storage / digest).write_bytes(content)
        return digest

    def repository(self, repo_id: str, *, authorized: bool) -> Repository:
        repository = self.repositories.get(repo_id)
        if repository is None or (repository.private and not authorized):
            raise RefusedError(404 if authorized else 401, "RepoNotFound", "Repository not found")
        return repository

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        repo_id = f"{request['organization']}/{request['name']}" if request["organization"] else request["name"]
        validate_repo_id(repo_id)
        if repo_id in self.repositories:
            raise RefusedError(409, "", "You already created this model repo", url=f"{self.url}/{repo_id}")
        self.repositories[repo_id] = Repository(request.get("visibility") == "private")
        self.repositories[repo_id].commit("initial commit", {})
        return {"url": f"{self.url}/{repo_id}", "id": repo_id}

    def preupload(self, repository: Repository, request: dict[str, Any]) -> dict[str, Any]:
        """How each file is to be uploaded, and what is there already."""
        files = []
        for file in request["files"]:
            path = file["path"]
            large = file["size"] > LFS_SIZE or path.endswith(LFS_SUFFIXES)
            answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if known := repository.commits[-1].files.get(path):
                answer["oid"] = known.sha256 if known.lfs else known.oid
            files.append(answer)
        return {"files": files}

    def lfs_batch(self, request: dict[str, Any]) -> dict[str, Any]:
        """Where to put what is not here yet."""
        objects = []
        for wanted in request["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if not (self.storage / wanted["oid"]).is_file():
                answer["actions"] = {"upload": {"href": f"{self.storage_url}/{wanted['oid']}"}}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def put(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusedError(400, "", f"The content is not that of {oid}")
        self.store(content)

    def commit(self, repo_id: str, repository: Repository, lines: list[dict[str, Any]]) -> dict[str, Any]:
        """One commit from its NDJSON: a header, then one line per file."""
        header, *operations = lines
        files = dict(repository.commits[-1].files)
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = File(sha.git_hash(content), self.store(content), len(content), lfs=False)
            elif operation["key"] == "lfsFile":
                if not (self.storage / value["oid"]).is_file():
                    raise RefusedError(400, "", f"{value['path']} was not uploaded")
                pointer = (
                    f"version https://git-lfs.github.com/spec/v1\noid sha256:{value['oid']}\nsize {value['size']}\n"
                )
                files[value["path"]] = File(sha.git_hash(pointer.encode()), value["oid"], value["size"], lfs=True)
            else:
                raise RefusedError(400, "", f"Unknown operation {operation['key']}")
        commit = repository.commit(header["value"]["summary"], files)
        return {"success": True, "commitOid": commit.oid, "commitUrl": f"{self.url}/{repo_id}/commit/{commit.oid}"}

    def info(self, repo_id: str, repository: Repository, commit: Commit) -> dict[str, Any]:
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        values = {"id": repo_id, "sha": commit.oid, "private": repository.private, "siblings": siblings, "tags": []}
        if card := commit.files.get("README.md"):
            data = ModelCard((self.storage / card.sha256).read_text(encoding="utf-8")).data
            values |= {
                "cardData": data.to_dict(),
                "pipeline_tag": data.pipeline_tag,
                "library_name": data.library_name,
                "tags": data.tags,
            }
        return values

    def tree(self, commit: Commit) -> list[dict[str, Any]]:
        entries = []
        for path, file in sorted(commit.files.items()):
            entry = {"type": "file", "path": path, "oid": file.oid, "size": file.num_bytes}
            if file.lfs:
                entry["lfs"] = {"oid": file.sha256, "size": file.num_bytes, "pointerSize": 134}
            entries.append(entry)
        return entries


def validate_card(content: str) -> dict[str, Any]:
    """What the Hub checks of a README.md; an invalid one is refused."""
    try:
        data = ModelCard(content).data
        for repo_id in (*(data.datasets or ()), *([data.base_model] if data.base_model else ())):
            validate_repo_id(repo_id)
    except ValueError as error:
        return {"errors": [{"message": str(error)}], "warnings": []}
    if data.license not in LICENSES | {"unknown", None}:
        return {"errors": [{"message": f"license {data.license!r} is unknown"}], "warnings": []}
    warnings = [] if data.license else [{"message": "empty or missing license"}]
    return {"errors": [], "warnings": warnings}


class Handler(BaseHTTPRequestHandler):
    """Requests -> the methods of the hub."""

    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the client is gone
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        try:
            with self.hub.lock:
                self.route(path, body)
        except RefusedError as error:
            self.send(error.status, error.body, error.headers)

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815  The names that http.server calls

    @property
    def authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def route(self, path: str, body: bytes) -> None:
        hub = self.hub
        if self.command in ("GET", "HEAD"):
            return self.read(path)
        if self.command == "PUT" and (found := re.fullmatch(r"/(\w{64})", path)):
            hub.put(found[1], body)  # like storage behind a signed URL: no token
            return self.send(200, {})
        if path == "/api/validate-yaml":
            result = validate_card(json.loads(body)["content"])
            return self.send(400 if result["errors"] else 200, result)
        if not self.authorized:
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        if path == "/api/repos/create":
            return self.send(200, hub.create(json.loads(body)))
        if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            hub.repository(found[1], authorized=True)
            return self.send(200, hub.lfs_batch(json.loads(body)))
        if found := re.fullmatch(r"/api/models/(.+)/(preupload|commit)/main", path):
            repository = hub.repository(found[1], authorized=True)
            if found[2] == "preupload":
                return self.send(200, hub.preupload(repository, json.loads(body)))
            lines = [json.loads(line) for line in body.splitlines()]
            return self.send(200, hub.commit(found[1], repository, lines))
        raise RefusedError(404, "", f"No such route: {self.command} {path}")

    def read(self, path: str) -> None:
        hub = self.hub
        if found := re.fullmatch(r"/(\w{64})", path):
            return self.send_file(hub.storage / found[1], {"ETag": f'"{found[1]}"'})
        if found := re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(found[1], found[2], found[3])
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", path):
            _, commit = self.find(found[1], found[2])
            if found[3]:  # no commit has folders
                raise RefusedError(404, "EntryNotFound", f"{found[3]} does not exist", commit=commit.oid)
            return self.send(200, hub.tree(commit))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            repository, commit = self.find(found[1], found[2] or "main")
            return self.send(200, hub.info(found[1], repository, commit))
        raise RefusedError(404, "", f"No such route: {self.command} {path}")

    def find(self, repo_id: str, revision: str) -> tuple[Repository, Commit]:
        repository = self.hub.repository(repo_id, authorized=self.authorized)
        commit = repository.find(revision)
        if commit is None:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        """A file, or for LFS files the way to it, as the Hub redirects to its storage."""
        _, commit = self.find(repo_id, revision)
        headers = {"X-Repo-Commit": commit.oid}
        file = commit.files.get(path)
        if file is None:
            raise RefusedError(404, "EntryNotFound", f"{path} does not exist", commit=commit.oid)
        if not file.lfs:
            return self.send_file(self.hub.storage / file.sha256, headers | {"ETag": f'"{file.oid}"'})
        headers |= {
            "Location": f"{self.hub.storage_url}/{file.sha256}",
            "X-Linked-ETag": f'"{file.sha256}"',
            "X-Linked-Size": str(file.num_bytes),
        }
        return self.send(302, {}, headers)

    def send_file(self, path: Path, headers: dict[str, str]) -> None:
        """A content, or the part of it that a Range asks for."""
        content = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if found is None:
            return self.send(200, content, headers)
        start, end = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
        headers |= {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return self.send(206, content[start : end + 1], headers)

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing: `requests` of the hub has them."""


@contextmanager
def serve(storage: Path) -> Iterator[LoopbackHub]:
    """A hub on free ports of loopback, for as long as the context lasts."""
    hub = LoopbackHub(storage)
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    servers = [LoopbackServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
