"""Small changes to a module that its tests should notice: mutants of its syntax tree."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    # Another order at the boundary, and the opposite
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult, ast.Mod),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
NAMES = {
    name: other
    for pair in (("any", "all"), ("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"))
    for name, other in (pair, pair[::-1])
}
# What only people read, and what the language fixes
SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "type_comment"}
SKIPPED_NODES = (ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr)
SKIPPED_FUNCTIONS = {"extra_repr"}
# Tests run on one device
SKIPPED_KEYWORDS = {"device"}
CONTEXT_LENGTH = 100
COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.FunctionDef, ast.ClassDef, ast.Module)


@dataclass
class Mutant:
    """One change of a syntax tree.

    Args:
        parent, field, index: Where the tree changes; no index if the field is not a list.
        replacement: What comes there; None takes an entry out of its list.
        scope: Function or class that is changed; "" at the module's level.
        lines: First and last line of the changed statement, without the statements inside it; of the whole function
            for its header. (0, 0) outside functions.
        before, after: The smallest sensible piece of source around the change.
    """

    parent: ast.AST
    field: str
    index: int | None
    replacement: ast.AST | None
    scope: str
    lines: tuple[int, int]
    before: str = ""
    after: str = ""

    def apply(self) -> None:
        if self.index is None:
            setattr(self.parent, self.field, self.replacement)
        elif self.replacement is None:
            del getattr(self.parent, self.field)[self.index]
        else:
            getattr(self.parent, self.field)[self.index] = self.replacement

    @property
    def key(self) -> str:
        """A name that stays when lines move."""
        return f"{self.scope}: {self.before} => {self.after}".removeprefix(": ")


def find_mutants(tree: ast.Module) -> list[Mutant]:
    """All mutants of a module, in the order of its source, no two with the same name."""
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    mutants = [*_visit(tree, "", (0, 0))]
    seen: dict[str, int] = {}
    for mutant in mutants:
        _describe(mutant, parents)
        seen[mutant.key] = seen.get(mutant.key, 0) + 1
        if seen[mutant.key] > 1:
            mutant.after += f" (number {seen[mutant.key]})"
    return mutants


def _visit(node: ast.AST, scope: str, lines: tuple[int, int]) -> Iterator[Mutant]:
    for field, value in ast.iter_fields(node):
        if field in SKIPPED_FIELDS:
            continue
        is_list = isinstance(value, list)
        for index, child in enumerate(value if is_list else [value]):
            if not isinstance(child, ast.AST) or isinstance(child, SKIPPED_NODES):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):  # a docstring
                continue
            inner_scope, inner_lines = _place(child, scope, lines)
            for replacement in _replacements(node, child, field):
                yield Mutant(node, field, index if is_list else None, replacement, inner_scope, inner_lines)
            if getattr(child, "name", "") not in SKIPPED_FUNCTIONS and not isinstance(child, ast.Raise):
                yield from _visit(child, inner_scope, inner_lines)


def _place(node: ast.AST, scope: str, lines: tuple[int, int]) -> tuple[str, tuple[int, int]]:
    """Scope and lines of what is inside a node."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        scope = f"{scope}.{node.name}".removeprefix(".")
    if isinstance(node, ast.FunctionDef):
        return scope, (node.body[0].lineno, node.end_lineno)
    if isinstance(node, ast.stmt) and lines != (0, 0):
        body = getattr(node, "body", None)
        return scope, (node.lineno, max(node.lineno, body[0].lineno - 1) if body else node.end_lineno)
    return scope, lines


def _replacements(parent: ast.AST, node: ast.AST, field: str) -> Iterator[ast.AST | None]:
    """What may stand in the place of a node."""
    for kind in SWAPS.get(type(node), ()):
        yield kind()
    if isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _other_values(node.value))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in NAMES and isinstance(parent, ast.Call) and field == "func":
            other = copy.copy(node)
            setattr(other, "id" if isinstance(node, ast.Name) else "attr", NAMES[name])
            yield other
    elif isinstance(node, ast.keyword) and node.arg not in {None, *SKIPPED_KEYWORDS}:
        yield None
    if _is_removable(node, parent):
        yield ast.Pass()
    is_condition = field == "test" or (field == "ifs" and isinstance(parent, ast.comprehension))
    if is_condition and not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), node)


def _is_removable(node: ast.AST, parent: ast.AST) -> bool:
    """Statements without which the others still run: not a function's last `return`, and no assignment."""
    if isinstance(node, ast.Return):
        return isinstance(parent, ast.If | ast.For | ast.While)
    is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return is_call or isinstance(node, ast.Raise | ast.AugAssign | ast.Continue | ast.Break)


def _other_values(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, float):
        yield 1.1 * value or 1.0
    elif isinstance(value, str) and " " not in value:  # sentences are for people
        yield f"{value}X"


def _describe(mutant: Mutant, parents: dict[ast.AST, ast.AST]) -> None:
    """Fill in `before` and `after`, with as much source around them as fits into a line."""
    context = mutant.parent
    while not isinstance(context, ast.expr | ast.stmt):
        context = parents[context]
    while not isinstance(context, ast.stmt):
        wider = parents[context]
        if isinstance(wider, COMPOUND) or len(ast.unparse(wider)) > CONTEXT_LENGTH:
            break
        context = wider
    if isinstance(context, COMPOUND) or isinstance(mutant.parent, ast.arguments):
        value = getattr(mutant.parent, mutant.field)
        context = value if mutant.index is None else value[mutant.index]
    old = getattr(mutant.parent, mutant.field)
    mutant.before = _text(context)
    if isinstance(mutant.parent, ast.arguments):
        parameters = mutant.parent.kwonlyargs if mutant.field == "kw_defaults" else mutant.parent.args[-len(old) :]
        mutant.before = f"{parameters[mutant.index].arg}={mutant.before}"
    kept = list(old) if isinstance(old, list) else old
    mutant.apply()
    if context is (kept if mutant.index is None else kept[mutant.index]):
        context = mutant.replacement
    mutant.after = _text(context)
    setattr(mutant.parent, mutant.field, kept)


def _text(node: ast.AST | None) -> str:
    return " ".join(ast.unparse(node).split()) if node is not None else ""
