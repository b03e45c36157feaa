"""What a module offers is what its `__all__` says: nothing more, nothing less."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator

import pytest

from tests.support.sources import Module, modules

# A program's entry, not a module that anybody imports.
MODULES = [m for m in modules("protocol", "storage", "server") if not m.name.endswith("__main__")]

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def defined_names(module: Module) -> Iterator[str]:
    """What the module itself defines at its top level; imported names belong to somebody else."""
    for node in module.tree().body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def type_variables(module: Module) -> set[str]:
    """Names like `T`: they stand in signatures and are offered to nobody."""
    found = set[str]()
    for node in module.tree().body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made_by = ast.unparse(node.value.func)
            if made_by in {"TypeVar", "ParamSpec", "TypeVarTuple"}:
                found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


@each_module
def test_every_module_says_what_it_offers(module: Module) -> None:
    assert "__all__" in set(defined_names(module)), f"{module.name} has no __all__"


@each_module
def test_what_a_module_offers_is_there_and_named_once(module: Module) -> None:
    loaded = importlib.import_module(module.name)
    offered: list[str] = loaded.__all__
    missing = [name for name in offered if not hasattr(loaded, name)]
    assert not missing, f"{module.name} offers what it does not have: {', '.join(missing)}"
    assert len(set(offered)) == len(offered)


@each_module
def test_what_a_module_does_not_offer_has_a_private_name(module: Module) -> None:
    offered: list[str] = importlib.import_module(module.name).__all__
    public = {name for name in defined_names(module) if not name.startswith("_")} - type_variables(module)
    hidden = sorted(public - set(offered))
    assert not hidden, f"{module.name}: into __all__, or with a leading underscore: {', '.join(hidden)}"
