"""The changes that mutation testing makes (`python -m tests.benchmarks.mutation`)."""

import ast
from textwrap import dedent

from tests.support.mutants import find_mutants

SOURCE = dedent('''
    """A module."""
    SIZE = 3

    def grow(x, factor=2.0, *, name="start"):
        """Make it larger."""
        if x < 0 and not name:
            raise ValueError(f"x={x} is less than 0")
        for _ in range(SIZE):
            x += max(x, factor, key=abs)
        return x
''')
CHANGES = {
    "SIZE = 3 => SIZE = 4",
    "grow: factor=2.0 => 2.2",
    "grow: name='start' => 'startX'",
    "grow: x < 0 and (not name) => x < 0 or not name",
    "grow: x < 0 and (not name) => x <= 0 and (not name)",
    "grow: x < 0 and (not name) => x >= 0 and (not name)",
    "grow: x < 0 and (not name) => x < 1 and (not name)",
    "grow: x < 0 and (not name) => x < 0 and name",
    "grow: raise ValueError(f'x={x} is less than 0') => pass",
    "grow: x += max(x, factor, key=abs) => pass",
    "grow: x += max(x, factor, key=abs) => x -= max(x, factor, key=abs)",
    "grow: x += max(x, factor, key=abs) => x += min(x, factor, key=abs)",
    "grow: x += max(x, factor, key=abs) => x += max(x, factor)",
}


def test_changes_of_a_function() -> None:
    tree = ast.parse(SOURCE)
    mutants = find_mutants(tree)
    assert {mutant.key for mutant in mutants} == CHANGES
    assert len(mutants) == len(CHANGES)
    assert ast.unparse(tree) == ast.unparse(ast.parse(SOURCE))  # describing them changes nothing
    lines = {mutant.key: mutant.lines for mutant in mutants}
    assert lines["SIZE = 3 => SIZE = 4"] == (0, 0)
    assert lines["grow: factor=2.0 => 2.2"] == (6, 11)
    assert lines["grow: x < 0 and (not name) => x < 0 and name"] == (7, 7)


def test_one_mutant_differs_in_one_place() -> None:
    plain = ast.unparse(ast.parse(SOURCE)).splitlines()
    for number in range(len(CHANGES)):
        tree = ast.parse(SOURCE)
        find_mutants(tree)[number].apply()
        changed = ast.unparse(ast.fix_missing_locations(tree)).splitlines()
        assert sum(a != b for a, b in zip(plain, changed, strict=True)) == 1
