"""What only some operating systems have is used with a fallback, and text files are UTF-8 everywhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "hf_ast").rglob("*.py"), *(ROOT / "tests" / "support").rglob("*.py")])
POSIX_ATTRIBUTES = {
    "os": {
        "fork", "forkpty", "geteuid", "getgid", "getpgid", "getuid", "killpg", "mkfifo", "O_DIRECTORY", "O_NOFOLLOW",
        "pread", "sched_getaffinity", "setsid", "statvfs", "sync", "sysconf", "uname", "wait4", "waitpid",
    },
    "signal": {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGSTOP", "SIGUSR1", "SIGUSR2", "alarm"},
}  # fmt: skip
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
# With a fallback beside them, or in helpers of tests for signals and limits, which run where these exist
ALLOWED = {
    ("hf_ast/inference/corpus/decoding.py", "os.sched_getaffinity"),
    ("tests/support/processes.py", "fork"),
    ("tests/support/processes.py", "resource"),
    ("tests/support/processes.py", "signal.SIGKILL"),
}


def posix_only(tree: ast.AST) -> Iterator[str]:
    """Names and texts that other systems do not know."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in POSIX_ATTRIBUTES.get(node.value.id, ()):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name in POSIX_MODULES)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_path = node.value.startswith(("/proc", "/dev/", "/tmp"))
            yield from [node.value] if is_path or node.value in ("fork", "forkserver") else []


def without_encoding(tree: ast.AST) -> Iterator[int]:
    """Lines that read or write text in the encoding of the machine."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("read_text", "write_text"):
            yield node.lineno
        modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        if isinstance(node.func, ast.Name) and name == "open" and not any("b" in mode for mode in modes):
            yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_needs_one_operating_system(path: Path) -> None:
    name, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
    assert [found for found in posix_only(tree) if (name, found) not in ALLOWED] == []
    if name.startswith("hf_ast/"):
        assert list(without_encoding(tree)) == []


def test_the_search_finds_what_it_looks_for() -> None:
    code = (
        "import fcntl\nos.uname()\nx = signal.SIGKILL\ny = '/proc/self'\nget_context('fork')\np.read_text()\nopen(f)"
    )
    tree = ast.parse(code)
    assert set(posix_only(tree)) == {"fcntl", "os.uname", "signal.SIGKILL", "/proc/self", "fork"}
    assert list(without_encoding(tree)) == [6, 7]
    assert not list(without_encoding(ast.parse("p.read_text(encoding='utf-8')\nopen(f, 'rb')")))


def test_plans_are_flushed_without_opening_folders_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = pytest.importorskip("hf_ast.inference.corpus.plan")
    opened: list[Path] = []

    class Windows:
        """The parts of `os` that are used, as on Windows, where `os.open` fails for folders."""

        name, O_RDWR, O_RDONLY = "nt", 2, 0
        fsync = staticmethod(lambda descriptor: None)
        close = staticmethod(lambda descriptor: None)

        @staticmethod
        def open(path: Path, flags: int) -> int:
            if path.is_dir():
                raise PermissionError(13, "Permission denied", str(path))
            assert flags == 2
            opened.append(path)
            return 7

    monkeypatch.setattr(plan, "os", Windows)
    (tmp_path / "unfinished").write_text("rows", encoding="utf-8")
    plan.publish(tmp_path / "unfinished", tmp_path / "shard")
    assert opened == [tmp_path / "unfinished"]
    assert (tmp_path / "shard").read_text(encoding="utf-8") == "rows"
