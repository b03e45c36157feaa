"""Who is let in: by token, and as far as there is room. Decides; says nothing to anybody itself."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import Final

from protocol.closing import CloseCode
from protocol.ids import UserId
from server.push.handshake import Offer, Refusal
from server.push.hub import Hub
from server.push.limits import TokenBucket
from server.push.registry import Registry
from server.session.manager import SessionManager
from server.tokens.claims import Claims, TokenProblem
from server.tokens.verifier import TokenVerifier

__all__ = ["Admission", "Readiness"]

_BUSY_RETRY_S: Final = 5.0
_LIMIT_RETRY_S: Final = 30.0
_DRAIN_RETRY_S: Final = 1.0


class Readiness(Enum):
    """Whether this replica takes new clients."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """It goes, but balancers may not know yet: who comes in is let in, and told to leave soon."""
    CLOSED = "closed"


class Admission:
    """The rules of the door."""

    def __init__(
        self, hub: Hub, registry: Registry, verifier: TokenVerifier, manager: SessionManager
    ) -> None:
        self.readiness = Readiness.STARTING
        self.overloaded = False
        """Whether the process has no memory to spare."""
        self._hub = hub
        self._registry = registry
        self._verifier = verifier
        self._manager = manager
        per_s = hub.options.accepts_per_s
        self._rate = TokenBucket(per_s, max(1.0, per_s), hub.clock.monotonic()) if per_s else None

    def at_the_door(self) -> Refusal | None:
        """Before anybody looks at a token: is anyone let in at all?"""
        match self.readiness:
            case Readiness.STARTING:
                return _overload("The server is starting.", _DRAIN_RETRY_S)
            case Readiness.CLOSED:
                return _overload("The server is shutting down.", _DRAIN_RETRY_S)
            case Readiness.READY | Readiness.DRAINING:
                pass
        counters = self._hub.counters
        if self.overloaded or self._registry.count >= self._hub.options.max_connections:
            counters.limit("memory_high_mib" if self.overloaded else "max_connections")
            return _overload("The server is full.", _BUSY_RETRY_S)
        wait_s = 0.0 if self._rate is None else self._rate.take(self._hub.clock.monotonic())
        if wait_s:
            counters.limit("accept_per_s")
            # Those who are put off come back spread out, not all when the first has its turn.
            return _overload("Too many at once.", wait_s + self._hub.draw() * _BUSY_RETRY_S)
        return None

    def authenticate(self, offer: Offer | None) -> Claims | Refusal:
        """The claims of the token. Raises UnknownKey where the issuer's keys should be read anew first."""
        try:
            return self._verifier.verify("" if offer is None else offer.token)
        except TokenProblem as problem:
            if type(problem) is not TokenProblem:
                raise
            return _unauthenticated(problem)

    async def authenticate_anew(self, offer: Offer) -> Claims | Refusal:
        """The same, after a look at the issuer's keys. May take a few seconds."""
        try:
            return await self._verifier.verify_fresh(offer.token)
        except TokenProblem as problem:
            return _unauthenticated(problem)

    def admit(self, claims: Claims, address: str | None, *, replaces: bool) -> Refusal | None:
        """Whether this client may come in now; `replaces`: in the place of one of its own connections."""
        if self._manager.revoked(claims.user, claims.iat):
            return Refusal(HTTPStatus.FORBIDDEN, CloseCode.REVOKED, "The token was revoked.")
        options = self._hub.options
        if not replaces and self._count(claims.user) >= options.max_connections_per_user:
            self._hub.counters.limit("connections_per_user")
            return _limit("Too many connections of this user.")
        per_address = options.max_connections_per_address
        if per_address and address is not None and self._registry.addresses[address] >= per_address:
            self._hub.counters.limit("connections_per_address")
            return _limit("Too many connections from this address.")
        return None

    def _count(self, user: UserId) -> int:
        return len(self._registry.of(user))


def _unauthenticated(problem: TokenProblem) -> Refusal:
    return Refusal(HTTPStatus.UNAUTHORIZED, CloseCode.UNAUTHENTICATED, problem.reason)


def _overload(text: str, retry_in_s: float) -> Refusal:
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, CloseCode.OVERLOAD, text, retry_in_s)


def _limit(text: str) -> Refusal:
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, CloseCode.LIMIT, text, _LIMIT_RETRY_S)
