"""Who may see what is for operators: metrics and the dashboard."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

from protocol.ids import UserId
from server.http.types import HttpRequest, HttpResponse, ListenerKind
from server.tokens import TokenProblem, TokenVerifier

__all__ = ["OperatorAccess"]

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="freya", scope="admin"'}


class OperatorAccess:
    """Everything is shown on a loopback bind and on the operators' own address; elsewhere to `admin`
    tokens.
    """

    def __init__(self, verifier: TokenVerifier, revoked: Callable[[UserId, datetime], bool]) -> None:
        self._verifier = verifier
        self._revoked = revoked

    async def refusal(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to somebody who may not see it; None for who may."""
        if request.listener is not ListenerKind.PUBLIC:
            return None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            claims = await self._verifier.verify_fresh(token.strip() if scheme.lower() == "bearer" else "")
        except TokenProblem as problem:
            return _refuse(HTTPStatus.UNAUTHORIZED, f"{problem.reason}: this is for operators")
        if self._revoked(claims.user, claims.iat):
            return _refuse(HTTPStatus.FORBIDDEN, "the token has been revoked")
        if "admin" not in claims.scopes:
            return _refuse(HTTPStatus.FORBIDDEN, "this is for operators: the token needs the scope admin")
        return None


def _refuse(status: HTTPStatus, sentence: str) -> HttpResponse:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
    if status is HTTPStatus.UNAUTHORIZED:
        headers |= _CHALLENGE
    return HttpResponse(status=status, headers=headers, body=f"{sentence}\n".encode())
