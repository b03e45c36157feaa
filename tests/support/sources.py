"""The project's own modules as text: what they are called, what they import, what they name. Nothing runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Module", "imported_modules", "modules"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Module:
    """One module: `storage.database`, and for a package `storage`."""

    name: str
    path: Path
    is_package: bool

    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(), str(self.path))

    def imports(self, known: frozenset[str]) -> frozenset[str]:
        """Every module it imports, wherever in the text: at the top, in a function, for types alone."""
        return frozenset(imported_modules(self.tree(), self.name, known, is_package=self.is_package))


def modules(*packages: str, root: Path = ROOT) -> list[Module]:
    """All modules of these top-level packages, by name."""
    paths = [path for package in packages for path in (root / package).rglob("*.py")]
    return sorted((_module(path, root) for path in paths), key=lambda module: module.name)


def _module(path: Path, root: Path) -> Module:
    parts = path.relative_to(root).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return Module(".".join(parts[:-1] if is_package else parts), path, is_package)


def imported_modules(
    tree: ast.Module, importer: str, known: frozenset[str], *, is_package: bool
) -> Iterator[str]:
    """Absolute names. `from a import b` means the module `a.b` where there is one, else the module `a`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, importer, is_package=is_package)
            for alias in node.names:
                deeper = f"{origin}.{alias.name}"
                yield deeper if deeper in known else origin


def _absolute(node: ast.ImportFrom, importer: str, *, is_package: bool) -> str:
    if node.level == 0:
        assert node.module is not None
        return node.module
    parts = importer.split(".")
    up = node.level - 1 if is_package else node.level
    base = parts[: len(parts) - up]
    return ".".join([*base, node.module] if node.module else base)
