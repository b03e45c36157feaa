"""Plain HTTP on the server's port: health, metrics, schemas, the dashboard's files.

The listener in `server.push` reads the request and writes the answer; what lies between is here, as plain
values (`types`), so that nothing in this room ever sees a socket.
"""

from __future__ import annotations

from server.http.types import HttpHandler, HttpRequest, HttpResponse, ListenerKind

__all__ = ["HttpHandler", "HttpRequest", "HttpResponse", "ListenerKind"]
