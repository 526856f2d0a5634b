"""The public surface is that of `tests/public_api.txt`, which `python -m tests.test_public_api` writes anew."""

import inspect
from pathlib import Path

import typer

import hf_ast
from hf_ast.cli import app

RECORD = Path(__file__).with_name("public_api.txt")


def signature(name: str, value: object) -> list[str]:
    """A line for a function or class, and one for each of a class's own public methods."""
    if not callable(value):
        return [name]
    try:
        lines = [f"{name}{_parameters(value)}"]
    except ValueError:  # built in
        lines = [name]
    if inspect.isclass(value):
        for member, function in sorted(vars(value).items()):
            if not member.startswith("_") and inspect.isfunction(function):
                lines.append(f"{name}.{member}{_parameters(function)}")
    return lines


def _parameters(function: object) -> str:
    """Names and defaults of the parameters; types are checked by mypy, and paths depend on the machine."""
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default.name if isinstance(parameter.default, Path) else parameter.default
        parameters.append(parameter.replace(annotation=inspect.Parameter.empty, default=default))
    return str(inspect.Signature(parameters))


def commands() -> list[str]:
    """A line for each command, with its arguments and options."""
    group = typer.main.get_command(app.build(app.ALL_COMMANDS, ""))
    lines = []
    for name, command in sorted(_leaves("hf-ast", group)):
        options = sorted(max(parameter.opts, key=len) for parameter in command.params)
        lines.append(f"{name} {' '.join(options)}")
    return lines


def _leaves(name: str, command: object) -> list[tuple[str, object]]:
    children = getattr(command, "commands", None)
    if not children:
        return [(name, command)]
    return [leaf for child, inner in children.items() for leaf in _leaves(f"{name} {child}", inner)]


def public_api() -> str:
    names = sorted(name for name in hf_ast.__all__ if name != "__version__")
    exported = [line for name in names for line in signature(f"hf_ast.{name}", getattr(hf_ast, name))]
    return "\n".join([*exported, *commands()]) + "\n"


def test_the_public_surface_is_the_one_on_record() -> None:
    assert public_api().splitlines() == RECORD.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    RECORD.write_text(public_api(), encoding="utf-8")
