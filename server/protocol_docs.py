"""The tables of `docs/protocol.md`, written from the contract itself.

The page is prose with generated parts between `<!-- begin: NAME -->` and `<!-- end: NAME -->`:
`python -m server.protocol_docs docs/protocol.md` writes them anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from protocol.errors import CLOSE_CODES, ERRORS
from protocol.messages import METHODS, NOTIFICATIONS
from protocol.messages.base import Method, Scope

__all__ = ["PARTS", "render"]

_SCOPES: Final[Mapping[Scope | None, str]] = {
    "own": "",
    None: "",
    "feed:watch": "`feed:watch`",
    "item:publish": "`item:publish`",
    "admin": "`admin`",
}


def render(page: str) -> str:
    """The page with every generated part as the code says now. Raises KeyError for a part nobody makes."""

    def part(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- begin: {name} -->\n{PARTS[name]()}\n<!-- end: {name} -->"

    return re.sub(r"<!-- begin: ([a-z-]+) -->\n.*?<!-- end: \1 -->", part, page, flags=re.DOTALL)


def _methods() -> str:
    rows = ((f"`{name}`", _params(method), _scope(method), method.doc) for name, method in METHODS.items())
    return _table(("method", "params", "scope", "what it does"), rows)


def _notifications() -> str:
    rows = ((f"`{name}`", _members(note.params), note.doc) for name, note in NOTIFICATIONS.items())
    return _table(("notification", "params", "when"), rows)


def _errors() -> str:
    kinds = sorted(ERRORS.items(), reverse=True)
    rows = ((str(code), kind.title, _first_sentence(kind.__doc__)) for code, kind in kinds)
    return _table(("code", "name", "meaning"), rows)


def _close_codes() -> str:
    rows = ((str(int(kind.code)), kind.means, kind.client_does) for kind in CLOSE_CODES.values())
    return _table(("code", "means", "the client does"), rows)


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "methods": _methods,
    "notifications": _notifications,
    "errors": _errors,
    "close-codes": _close_codes,
}


def _scope(method: Method) -> str:
    own, other = _SCOPES[method.scope], method.other_scope
    if other is None or other == method.scope:
        return own
    return ", ".join(filter(None, (own, f"{_SCOPES[other]} for others")))


def _params(method: Method) -> str:
    members = _members(method.params)
    return f"{members}; a notification" if method.notification else members


def _members(model: type[BaseModel]) -> str:
    names = [
        (info.serialization_alias or info.alias or name) + ("" if info.is_required() else "?")
        for name, info in model.model_fields.items()
    ]
    return f"`{{{', '.join(names)}}}`"


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split()).partition(". ")[0].rstrip(".")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.write_text(render(where.read_text()))
