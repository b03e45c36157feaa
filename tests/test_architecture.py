"""Holds the arrows of the house: who may import whom. `docs/architecture.md` draws the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support.programs import ROOT
from tests.support.sources import Module, imported_modules, modules

HOUSE = modules("protocol", "storage", "server")
KNOWN = frozenset(module.name for module in HOUSE)
OURS = frozenset({"protocol", "storage", "server"})

# The engine knows the words of the feed and nothing of users, sockets and SQL.
CENTRE = ("protocol.feed", "protocol.frozen", "protocol.ids", "server.engine")

# A foreign library lives in few modules; its types and errors stop there.
HOMES_OF_LIBRARIES = {
    "asyncpg": ("storage",),
    "redis": ("server.replication",),
    "openai": ("server.enhancement",),
    "cryptography": ("storage.credentials", "server.tokens"),
    "websockets": ("server.push", "protocol.client"),
    "httpx": ("server.upstream", "server.tokens"),
    "httpcore": ("server.upstream",),
    "hishel": ("server.upstream",),
    "tenacity": ("server.upstream",),
    "opentelemetry": ("server.otel",),
    "feedparser": ("server.reading",),
    "icalendar": ("server.reading",),
    "recurring_ical_events": ("server.reading",),
    "caldav": ("server.reading",),
}

# Modules that only join what others are, so that they may know everybody.
JOINERS = ("server.app", "server.cli", "server.__main__")

# Modules beside the rooms that everybody may know: they know nobody.
WORDS = frozenset({"server.cannot_start", "server.log", "server.settings", "server.tracing"})


def within(name: str, *places: str) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


ARROWS = [(module.name, imported) for module in HOUSE for imported in sorted(module.imports(KNOWN))]


def arrows(*importers: str) -> list[tuple[str, str]]:
    """(importer, imported) for every import in these places; an empty place would prove nothing."""
    found = [arrow for arrow in ARROWS if within(arrow[0], *importers)]
    assert found, f"{', '.join(importers)}: no module imports anything"
    return found


def told(wrong: list[tuple[str, str]]) -> str:
    """What breaks a rule, a line each: empty where all is well."""
    return "\n".join(f"{importer} imports {imported}" for importer, imported in wrong)


def ours(name: str) -> bool:
    return name.split(".")[0] in OURS


def room(name: str) -> str:
    """`protocol` and `storage` are rooms; in `server` each package is one, and each module beside them."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "server" else parts[0]


def test_the_protocol_imports_nothing_of_ours_but_itself() -> None:
    assert told([a for a in arrows("protocol") if ours(a[1]) and not within(a[1], "protocol")]) == ""


def test_storage_imports_nothing_of_the_server() -> None:
    assert told([a for a in arrows("storage") if within(a[1], "server")]) == ""


def test_the_engine_imports_only_the_words_of_the_feed() -> None:
    assert told([a for a in arrows("server.engine") if ours(a[1]) and not within(a[1], *CENTRE)]) == ""


def test_push_never_touches_sql() -> None:
    assert told([a for a in arrows("server.push") if within(a[1], "storage", "asyncpg")]) == ""


def test_what_workers_read_needs_nothing_else_of_ours() -> None:
    assert (
        told([a for a in arrows("server.reading") if ours(a[1]) and not within(a[1], "server.reading")]) == ""
    )


def test_only_the_commands_know_the_app() -> None:
    assert (
        told([a for a in arrows("server") if within(a[1], "server.app") and not within(a[0], *JOINERS)]) == ""
    )


@pytest.mark.parametrize("library", HOMES_OF_LIBRARIES)
def test_a_foreign_library_stays_in_its_rooms(library: str) -> None:
    users = [a for a in arrows(*OURS) if within(a[1], library)]
    assert told([a for a in users if not within(a[0], *HOMES_OF_LIBRARIES[library])]) == ""


def test_no_two_rooms_import_each_other_not_even_by_a_detour() -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported in arrows(*OURS):
        if ours(imported) and room(importer) != room(imported):
            graph.setdefault(room(importer), set()).add(room(imported))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("rooms in a circle: " + " <- ".join(error.args[1]))


def drawn() -> dict[str, set[str]]:
    """The arrows of the diagram: from each room to those that it may import."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    diagram = page.partition("```mermaid\n")[2].partition("```")[0]
    names = dict[str, str](re.findall(r"(\w+)\[([\w.]+)\]", diagram))
    found: dict[str, set[str]] = {}
    for line in re.sub(r"\[[\w.]+\]", "", diagram).splitlines()[1:]:
        source, _, targets = line.strip().partition(" --> ")
        ends = {names.get(target, target) for target in targets.split(" & ")}
        found.setdefault(names.get(source, source), set()).update(ends)
    return found


def sight(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Every room that is reached from this one."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        new = graph.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def test_the_diagram_shows_who_imports_whom() -> None:
    packages = {name.rpartition(".")[0] for name in KNOWN} | {"protocol", "storage"}
    imports: dict[str, set[str]] = {}
    for importer, imported in arrows(*OURS):
        if importer == "server.__main__":
            continue
        ends = [one if one in packages else "server.app" for one in (room(importer), room(imported))]
        if ours(imported) and ends[0] != ends[1] and room(imported) not in WORDS:
            imports.setdefault(ends[0], set()).add(ends[1])
    picture = drawn()
    # What can be seen through another room needs no arrow of its own; an arrow that is there is an import.
    seen = {each: sight(imports, each) for each in imports}
    assert {each: sight(picture, each) for each in imports} == seen
    assert {each: ends - imports[each] for each, ends in picture.items() if ends - imports[each]} == {}


def test_no_module_is_imported_that_is_not_there() -> None:
    assert told([a for a in arrows(*OURS) if ours(a[1]) and a[1] not in KNOWN]) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import storage.database", {"storage.database"}),
        ("from storage import database", {"storage.database"}),
        ("from storage.database import Database", {"storage.database"}),
        ("from . import sweeper", {"server.push"}),
        ("from ..session import manager", {"server.session"}),
        ("def late():\n    import asyncpg", {"asyncpg"}),
        ("if TYPE_CHECKING:\n    from asyncpg.pool import Pool", {"asyncpg.pool"}),
    ],
)
def test_imports_are_found_in_every_form(text: str, expected: set[str]) -> None:
    known = frozenset({"storage.database"})
    found = imported_modules(ast.parse(text), "server.push.gateway", known, is_package=False)
    assert set(found) == expected


def test_a_package_counts_its_dots_from_itself() -> None:
    tree = ast.parse("from .gateway import Gateway\nfrom .. import app")
    found = imported_modules(tree, "server.push", frozenset({"server.app"}), is_package=True)
    assert set(found) == {"server.push.gateway", "server.app"}


def test_the_modules_of_the_house_are_found() -> None:
    assert {"protocol", "storage", "server"} <= KNOWN
    assert all(isinstance(module, Module) and module.path.is_file() for module in HOUSE)
