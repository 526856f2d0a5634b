"""One self-contained file out of a file and those that it imports, for a Hub folder.

A config stays a file of its own, which the others import, because transformers compares config classes. Everything
else that a file needs of its siblings is copied into it, definition by definition, with its comments.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .sources import Definition, ExternalImport, GeneratorError, Source, builtin_names, read_source

PACKAGE = __package__.partition(".")[0]
OLDER = Path(__file__).parent / "older"
CONFIGURATION = "configuration_"
LINE_LENGTH = 119
HEADER = """\
# Written by hf_ast (Apache-2.0) out of several files; change those, not this one. It is used where `hf_ast` is not
# installed.
from transformers.utils.versions import require_version

for _needed in ("python>=3.11", "transformers>={oldest}"):
    require_version(_needed, "The code of this model does not run below it; upgrade, or convert the model anew.")
"""
OLDEST_TRANSFORMERS = "4.57"


class Placed(NamedTuple):
    """A definition and the file that it comes from."""

    source: Source
    definition: Definition


def generate(path: Path) -> dict[str, str]:
    """Generate the self-contained file of a configuration, modeling or feature extraction file, and of its config.

    Args:
        path: The file in `hf_ast/models`.

    Returns:
        Text by file name: of the file itself, and of the config that it imports, if it imports one.

    Raises:
        GeneratorError: Two files define one name, or a file imports in a form that cannot be followed.
    """
    sources = Sources(path.parent)
    root = sources.sibling(path.stem)
    configs = [] if path.stem.startswith(CONFIGURATION) else sorted(filter(_is_family_config, root.siblings()))
    if len(configs) > 1:
        raise GeneratorError(f"{path.name} imports more than one config: {configs}.")
    bundles = [Bundle(sources, sources.sibling(name)) for name in configs]
    bundles.append(Bundle(sources, root, bundles[0] if bundles else None))
    return {bundle.root.path.name: bundle.text() for bundle in bundles}


def _is_family_config(name: str) -> bool:
    return name.startswith(CONFIGURATION) and not name.endswith("_common")


class Sources:
    """The files of a folder, and those of `older/`, each read once.

    Args:
        folder: Where the siblings are.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[Path, Source] = {}
        older = [self._source(path) for path in sorted(OLDER.glob("[a-z]*.py"))]
        # Name that a file of ours imports from elsewhere -> the file that has it for all versions
        self.older = {name: source for source in older for name in source.exported}

    def sibling(self, name: str) -> Source:
        """The file of that name in the folder."""
        return self._source(self.folder / f"{name}.py")

    def dependencies(self, source: Source) -> list[Source]:
        """Files that a file imports names of, in the order of its imports."""
        names = [self.sibling(name) for name in source.siblings()]
        if source.path.parent != OLDER:
            names += [self.older[name] for name in source.external if name in self.older]
        return list(dict.fromkeys(names))

    def find(self, source: Source, name: str) -> Placed | ExternalImport | None:
        """What a global name of a file is: a definition, here or in a sibling, or an import; None for a builtin."""
        if name in source.definitions:
            return Placed(source, source.definitions[name])
        if name in source.imported:
            return self.find(self.sibling(source.imported[name]), name)
        if name not in source.external:
            return None
        if name in self.older and source.path.parent != OLDER:
            return Placed(self.older[name], self.older[name].definitions[name])
        return source.external[name]

    def _source(self, path: Path) -> Source:
        if path not in self._read:
            self._read[path] = read_source(path)
        return self._read[path]


class Bundle:
    """A file with all that it needs of others, but without what its config holds.

    Args:
        sources: Where the files come from.
        root: The file, which is taken whole.
        config: The bundle of its config, from which it imports.
    """

    def __init__(self, sources: Sources, root: Source, config: "Bundle | None" = None):
        self.sources = sources
        self.root = root
        self.config = config
        self.placed: set[Placed] = set()
        self.imports: dict[str, ExternalImport] = {}
        self.of_config: set[str] = set()
        self._origins: dict[str, Path | str] = {}
        self._add_all(Placed(root, definition) for definition in root.statements)
        self._check_builtins()

    def text(self) -> str:
        """The file."""
        parts = []
        for source in self._ordered():
            kept = [statement for statement in source.statements if Placed(source, statement) in self.placed]
            if kept:
                title = () if source is self.root else (source.as_comment(),)
                parts.append("".join((*title, *(statement.text for statement in kept))).strip("\n"))
        header = HEADER.format(oldest=OLDEST_TRANSFORMERS)
        config = "" if self.config is None else _import_lines(f".{self.config.root.path.stem}", self.of_config)
        imports = "\n".join(block for block in (*_import_blocks(self.imports.values()), config) if block)
        return f"{self.root.docstring}\n\n{header}\n{imports}\n" + "\n\n\n".join(parts) + "\n"

    def _add_all(self, found: Iterable[Placed]) -> None:
        waiting = list(found)
        while waiting:
            placed = waiting.pop()
            if placed in self.placed:
                continue
            source, definition = placed
            if all(source is not other for other, _ in self.placed):
                # What a file does besides defining, as registering with transformers
                waiting += [Placed(source, effect) for effect in source.statements if effect.has_effect]
            self.placed.add(placed)
            for name in definition.names:
                self._claim(name, source.path)
            for name in definition.needs:
                waiting += self._need(source, name)

    def _need(self, source: Source, name: str) -> list[Placed]:
        """Note where a name comes from; what has to be added for it."""
        found = self.sources.find(source, name)
        if isinstance(found, Placed):
            if self.config is None or found not in self.config.placed:
                return [found]
            self._claim(name, found.source.path)
            self.of_config.add(name)
        elif found is not None:
            if found.module.startswith((".", PACKAGE)):
                raise GeneratorError(
                    f"{source.path.name} imports {name} from {found.module}, which no Hub folder has."
                )
            self._claim(name, found.origin)
            self.imports[name] = found
        return []

    def _claim(self, name: str, origin: Path | str) -> None:
        before = self._origins.setdefault(name, origin)
        if before != origin:
            raise GeneratorError(f"{self.root.path.name}: {name} is in {before} and in {origin}; rename one of them.")

    def _check_builtins(self) -> None:
        """A name that one file defines, and others take for Python's own."""
        if hidden := sorted(builtin_names & self._origins.keys()):
            raise GeneratorError(f"{self.root.path.name}: {hidden} are names of Python's own; rename them.")

    def _ordered(self) -> list[Source]:
        """The files, each after those that it needs."""
        ordered: dict[Source, None] = {}

        def visit(source: Source) -> None:
            if source not in ordered:
                for dependency in self.sources.dependencies(source):
                    visit(dependency)
                ordered[source] = None

        visit(self.root)
        return list(ordered)


def _import_blocks(imports: Iterable[ExternalImport]) -> list[str]:
    """Import statements, those of the standard library first."""
    blocks: dict[bool, list[str]] = {True: [], False: []}
    by_module: dict[tuple[bool, str], list[ExternalImport]] = {}
    for item in imports:
        by_module.setdefault((item.name is not None, item.module), []).append(item)
    for (is_from, module), items in sorted(by_module.items()):
        names = {_with_alias(item.name or module, item.bound) for item in items}
        text = _import_lines(module, names) if is_from else "".join(f"import {name}\n" for name in sorted(names))
        blocks[module.partition(".")[0] in sys.stdlib_module_names].append(text)
    return ["".join(lines) for lines in blocks.values()]


def _with_alias(name: str, bound: str) -> str:
    return name if name == bound else f"{name} as {bound}"


def _import_lines(module: str, names: set[str]) -> str:
    """A `from` import of names, in the order of isort."""
    if not names:
        return ""
    ordered = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name.lower()))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= LINE_LENGTH:
        return f"{line}\n"
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in ordered) + ")\n"
