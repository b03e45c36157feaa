"""The dashboard's files and the JavaScript client, read once at start and held in memory.

What is served is exactly what a table lists: a path is looked up, never joined to a directory, so there
is no path that leads anywhere else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable

__all__ = ["StaticFile", "client_files", "dashboard_files"]

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Only files of these kinds are served; what else lies in the folders stays there."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it goes out. `etag` is quoted, and changes exactly when the content does."""

    content_type: str
    body: bytes
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> StaticFile:
        """A file whose kind is told by its name's ending."""
        digest = base64.urlsafe_b64encode(blake2b(body, digest_size=12).digest()).decode()
        return cls(_CONTENT_TYPES[_suffix(name)], body, f'"{digest}"')


def dashboard_files() -> Mapping[str, StaticFile]:
    """The dashboard by path; `/` is its index. Empty where the folder has no index."""
    found = {f"/{name}": file for name, file in _read(files("server").joinpath("dashboard"))}
    index = found.get("/index.html")
    return {} if index is None else {**found, "/": index}


def client_files() -> Mapping[str, StaticFile]:
    """The JavaScript client by path: its modules under `/client/`, and `/client.js` to import from
    anywhere.
    """
    found = {f"/client/{name}": file for name, file in _read(files("protocol").joinpath("js"))}
    if "/client/index.js" in found:
        found["/client.js"] = StaticFile.of("client.js", b'export * from "./client/index.js";\n')
    return found


def _read(folder: Traversable, below: str = "") -> Iterator[tuple[str, StaticFile]]:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith((".", "_")):
            yield from _read(entry, f"{below}{entry.name}/")
        elif entry.is_file() and _suffix(entry.name) in _CONTENT_TYPES:
            yield f"{below}{entry.name}", StaticFile.of(entry.name, entry.read_bytes())


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
