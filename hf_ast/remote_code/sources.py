"""A Python file as the generator sees it: what it imports, what it defines, and what its definitions need."""

import ast
import builtins
import symtable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# Statements that only bind names; `if` and `try` choose between definitions
DEFINING = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.If, ast.Try)
builtin_names = frozenset(dir(builtins)) - {"__doc__", "__name__"}


class GeneratorError(Exception):
    """A file is not in the form that the generator understands."""


class ExternalImport(NamedTuple):
    """An import from outside the folder: `import module as bound`, or `from module import name as bound`."""

    module: str
    name: str | None
    bound: str

    @property
    def origin(self) -> str:
        """What the name means, to compare."""
        return self.module if self.name is None else f"{self.module}.{self.name}"


class Definition(NamedTuple):
    """A statement at the top of a file.

    Args:
        names: That it binds.
        needs: Global names that it uses.
        text: Its lines, with the blank lines and comments before it.
        has_effect: Whether it does something besides defining, so that it belongs to whatever its file defines.
    """

    names: frozenset[str]
    needs: frozenset[str]
    text: str
    has_effect: bool


@dataclass(eq=False)
class Source:
    """A file.

    Args:
        path: Of the file.
        docstring: Its lines, with quotation marks.
        statements: All but imports and the docstring.
        external: What it imports from outside the folder, by name.
        imported: The sibling from which it imports a name, by name.
    """

    path: Path
    docstring: str
    statements: list[Definition]
    external: dict[str, ExternalImport]
    imported: dict[str, str]

    @property
    def definitions(self) -> dict[str, Definition]:
        """By name."""
        return {name: statement for statement in self.statements for name in statement.names}

    @property
    def exported(self) -> list[str]:
        """Names that do not begin with an underscore."""
        return [name for name in self.definitions if not name.startswith("_")]

    def siblings(self) -> list[str]:
        """Files of the same folder from which it imports, in order."""
        return list(dict.fromkeys(self.imported.values()))

    def as_comment(self) -> str:
        """The docstring as a comment, for a place amid other code."""
        lines = (self.path.name, "", *ast.literal_eval(self.docstring).strip().splitlines())
        return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def read_source(path: Path) -> Source:
    """Read and analyse a file.

    Raises:
        GeneratorError: It has no docstring, or imports a sibling in another form than `from .sibling import name`.
    """
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    if ast.get_docstring(tree) is None:
        raise GeneratorError(f"{path.name} has no docstring.")
    lines = text.splitlines(keepends=True)
    first, *rest = tree.body
    source = Source(path, "".join(lines[: first.end_lineno]).strip("\n"), [], {}, {})
    _check_nested_imports(path, rest)
    end = first.end_lineno or 0
    for node in rest:
        last = node.end_lineno or end
        if isinstance(node, ast.Import | ast.ImportFrom):
            _note_import(source, node)
        else:
            segment = "".join(lines[end:last])
            names = _bound_names(path, segment)
            has_effect = not isinstance(node, DEFINING)
            source.statements.append(Definition(names, _needed_names(path, segment) - names, segment, has_effect))
        end = last
    return source


def _note_import(source: Source, node: ast.Import | ast.ImportFrom) -> None:
    """Add the names of an import statement."""
    for alias in node.names:
        bound = alias.asname or alias.name
        if isinstance(node, ast.Import):
            source.external[bound] = ExternalImport(alias.name, None, bound)
        elif node.level == 1:
            if alias.asname is not None or alias.name == "*" or node.module is None or "." in node.module:
                raise GeneratorError(
                    f"{source.path.name}, line {node.lineno}: import from a sibling by `from .sibling import name`."
                )
            source.imported[bound] = node.module
        else:
            module = "." * node.level + (node.module or "")
            source.external[bound] = ExternalImport(module, alias.name, bound)
    if "*" in source.external or any("." in name for name in source.external):
        raise GeneratorError(f"{source.path.name}, line {node.lineno}: import single names, by `from`.")


def _check_nested_imports(path: Path, nodes: list[ast.stmt]) -> None:
    """Siblings are imported at the top only, where the generator sees it."""
    for statement in nodes:
        for node in ast.walk(statement):
            if node is not statement and isinstance(node, ast.ImportFrom) and node.level:
                raise GeneratorError(f"{path.name}, line {node.lineno}: import siblings at the top of the file.")


def _bound_names(path: Path, segment: str) -> frozenset[str]:
    table = symtable.symtable(segment, path.name, "exec")
    return frozenset(
        symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()
    )


def _needed_names(path: Path, segment: str) -> frozenset[str]:
    """Global names that a statement reads, those within functions and classes included."""
    table = symtable.symtable(segment, path.name, "exec")
    needed = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    tables = table.get_children()
    while tables:
        inner = tables.pop()
        needed |= {
            symbol.get_name() for symbol in inner.get_symbols() if symbol.is_global() and symbol.is_referenced()
        }
        tables += inner.get_children()
    return frozenset(needed)
