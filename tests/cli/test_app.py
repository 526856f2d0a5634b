"""`hf-ast` itself: its help, its version, and what becomes of errors."""

import pytest

import hf_ast
from hf_ast.assets import RECORDINGS
from hf_ast.cli import main
from hf_ast.cli.errors import is_for_users, sentence
from tests.support.interpreter import run
from tests.support.tiny import tiny_ssast_config

COMMANDS = (
    "classify", "tag", "embed", "pretrain", "checkpoints", "convert", "verify", "card", "export-official", "publish"
)  # fmt: skip


def test_help_imports_nothing_heavy() -> None:
    """It has 0.3 s; importing torch takes seconds."""
    output = run("""
from hf_ast.cli import main
print(main(["--help"]), [m for m in ("torch", "transformers", "numpy", "conversion") if m in sys.modules])
""")
    assert output.splitlines()[-1] == "0 []"
    assert all(f"│ {command} " in output for command in COMMANDS)
    assert "Exit status: 0 if everything was done, 1 if something could not be done (the rest was)" in " ".join(
        output.split()
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_version_and_completion(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hf-ast {hf_ast.__version__}\n"
    monkeypatch.setenv("_HF_AST_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "hf-ast export-o")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert main([]) == 0
    assert capsys.readouterr().out.split() == ["export-official"]


def test_without_the_extra_for_commands_it_is_one_sentence() -> None:
    output = run(
        "import contextlib; sys.stderr = sys.stdout; from hf_ast.cli import main; print(main(['classify', '.']))",
        without=("typer",),
    )
    assert output.splitlines() == [
        'error: The command line needs typer and rich: pip install "hf-ast[cli,audio]"',
        "1",
    ]


@pytest.mark.parametrize(
    "arguments",
    [["classify"], ["classify", "a.wav", "--top-k", "0"], ["classify", "a.wav", "--nonsense"], ["list"]],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("Usage: hf-ast")


def test_validation_errors_lose_their_wrappers() -> None:
    with pytest.raises(Exception, match="validate_geometry") as caught:
        tiny_ssast_config(patch_size=(64, 6))
    assert is_for_users(caught.value)
    assert sentence(caught.value).startswith("num_mel_bins=32 holds no patch of patch_size=")
    with pytest.raises(Exception, match="Validation error for field") as caught:
        tiny_ssast_config(hidden_size="wide")
    assert is_for_users(caught.value)
    assert "Validation error" not in sentence(caught.value)
    assert "expected int" in sentence(caught.value)


def test_sentences_of_other_errors() -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        open("/no/such/file")  # noqa: SIM115
    assert sentence(caught.value) == "No such file or directory: '/no/such/file'"
    assert not is_for_users(RuntimeError("a mistake in the program"))


def test_the_traceback_of_any_error_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="nothing-like-it"):
        main(["--traceback", "checkpoints", "nothing-like-it"])
    recording = str(RECORDINGS / "yes.flac")
    with pytest.raises(ValueError, match="window_s=20"):
        main(["--traceback", "tag", recording, "--window", "20"])
    assert main(["checkpoints", "nothing-like-it"]) == 1
    assert capsys.readouterr().err.startswith("error: No checkpoint has 'nothing-like-it'")
