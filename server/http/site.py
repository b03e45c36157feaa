"""Every page of the port in one table: path -> answer.

/healthz  /readyz                     for whoever keeps the process running
/metrics                              for operators
/asyncapi.json  /schemas/METHOD.json  the wire contract, generated
/client.js  /client/…                 the JavaScript client
/  and its files                      the dashboard, for operators
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

import orjson
import structlog

from server.http.access import OperatorAccess
from server.http.files import StaticFile, client_files, dashboard_files
from server.http.types import HttpRequest, HttpResponse

__all__ = ["Readiness", "Site"]

_log = structlog.get_logger(__name__)

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_JSON = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}

# A Host header goes into the policy below: only what a host name can look like does.
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class Readiness(Protocol):
    """Whether to send clients here."""

    def not_ready(self) -> str | None:
        """Why nobody should be sent here now ("starting", "draining"); None if all is well."""
        ...

    def degraded(self) -> Sequence[str]:
        """Names of what is away while the server goes on without."""
        ...


class Site:
    """Answers every request that is not an upgrade. `metrics` renders the Prometheus text; `schemas` are the
    generated documents by path.
    """

    def __init__(
        self,
        *,
        readiness: Readiness,
        access: OperatorAccess,
        metrics: Callable[[], Awaitable[bytes]],
        schemas: Mapping[str, StaticFile],
    ) -> None:
        self._readiness = readiness
        self._access = access
        self._metrics = metrics
        self._open = {**schemas, **client_files()}
        self._dashboard = dashboard_files()

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, whatever was asked. Never raises but for cancellation."""
        try:
            return await self._answer(request)
        except Exception:  # the top of a request: whatever is wrong with one page must not end the connection
            _log.exception("http_request_failed", path=request.path)
            return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "something is wrong here; the _log has it")

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        match request.path:
            case "/healthz":
                return _json(HTTPStatus.OK, {"status": "ok"})
            case "/readyz":
                return self._ready()
            case "/metrics":
                return await self._access.refusal(request) or _metrics_text(await self._metrics())
            case _:
                return await self._page(request)

    async def _page(self, request: HttpRequest) -> HttpResponse:
        if (file := self._open.get(request.path)) is not None:
            return _file(request, file, {"Access-Control-Allow-Origin": "*"})
        if (file := self._dashboard.get(request.path)) is not None:
            return await self._access.refusal(request) or _file(request, file, _page_headers(request))
        return _text(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _ready(self) -> HttpResponse:
        reason = self._readiness.not_ready()
        if reason is not None:
            return _json(
                HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "reason": reason}, {"Retry-After": "1"}
            )
        return _json(HTTPStatus.OK, {"ready": True, "degraded": list(self._readiness.degraded())})


def _file(request: HttpRequest, file: StaticFile, more: Mapping[str, str]) -> HttpResponse:
    """RFC 9110, section 13.1.2. `no-cache`: browsers ask each time, and mostly get the short answer."""
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", **more}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return HttpResponse(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return HttpResponse(
        status=HTTPStatus.OK, headers={"Content-Type": file.content_type, **headers}, body=file.body
    )


def _page_headers(request: HttpRequest) -> Mapping[str, str]:
    """Everything from here, nothing inline, no frame around it. The socket is named by its own scheme, since
    not every browser counts ws: as 'self'.
    """
    host = request.headers.get("host", "")
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; manifest-src 'self'; "
        f"connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }


def _metrics_text(body: bytes) -> HttpResponse:
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return HttpResponse(
        status=HTTPStatus.OK, headers={"Content-Type": kind, "Cache-Control": "no-store"}, body=body
    )


def _json(status: HTTPStatus, value: object, more: Mapping[str, str] | None = None) -> HttpResponse:
    headers = {**_JSON, "Cache-Control": "no-store", **(more or {})}
    return HttpResponse(status=status, headers=headers, body=orjson.dumps(value))


def _text(status: HTTPStatus, sentence: str) -> HttpResponse:
    return HttpResponse(
        status=status, headers={**_TEXT, "Cache-Control": "no-store"}, body=f"{sentence}\n".encode()
    )
