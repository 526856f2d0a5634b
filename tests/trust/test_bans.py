"""Calls that run the code of a file: ruff has no rule for those of torch and transformers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for room in ("hf_ast", "conversion", "examples") for path in sorted((ROOT / room).rglob("*.py"))]


def unsafe(call: ast.Call) -> str | None:
    """What is wrong with a call, or None."""
    keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    if keywords.get("trust_remote_code"):
        return "trust_remote_code is for users to set"
    is_load = ast.unparse(call.func) in ("torch.load", "torch.jit.load", "torch.hub.load")
    if is_load and keywords.get("weights_only") is not True:
        return "torch.load without weights_only=True"
    if ast.unparse(call.func).endswith(("np.load", "numpy.load")) and keywords.get("allow_pickle"):
        return "np.load of pickles"
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_call_runs_the_code_of_a_file(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert [(call.lineno, problem) for call in calls if (problem := unsafe(call))] == []


def test_the_bans_find_what_is_banned() -> None:
    for text in (
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.jit.load(f)",
        "g(trust_remote_code=True)",
    ):
        assert unsafe(ast.parse(text, mode="eval").body) is not None
    for text in ("torch.load(f, weights_only=True)", "g(trust_remote_code=False)"):
        assert unsafe(ast.parse(text, mode="eval").body) is None
