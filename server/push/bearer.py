"""Whose connection it is, by which token, and until when."""

from __future__ import annotations

from enum import Enum

from protocol.ids import UserId
from server.push.auth import expiry_notice_at
from server.tokens.claims import Claims

__all__ = ["Bearer", "Standing"]


class Standing(Enum):
    """How a token stands at a moment."""

    GOOD = "good"
    ENDING = "ending"
    """The client is to be told, and has not been."""
    EXPIRED = "expired"
    """No request starts any more; running ones may end."""
    OVER = "over"
    """Not even that."""


class Bearer:
    """The claims of a connection's token, and the moments of its end (seconds of the wall clock)."""

    __slots__ = ("_notice_at", "claims", "ends_at", "told")

    def __init__(self, claims: Claims, *, leeway_s: float, now: float, fraction: float) -> None:
        """`fraction`, from 0 to 1, picks the moment of the notice within its span."""
        self.claims = claims
        self.told = False
        self.ends_at = claims.exp.timestamp() + leeway_s
        self._notice_at = expiry_notice_at(claims.iat.timestamp(), claims.exp.timestamp(), now, fraction)

    @property
    def user(self) -> UserId:
        """The user of the token."""
        return self.claims.user

    def standing(self, now: float, grace_s: float) -> Standing:
        """How the token stands; running requests get `grace_s` after its end."""
        if now >= self.ends_at:
            return Standing.OVER if now >= self.ends_at + grace_s else Standing.EXPIRED
        return Standing.ENDING if not self.told and now >= self._notice_at else Standing.GOOD

    def next_at(self, now: float, grace_s: float) -> float:
        """When its standing changes next."""
        moments = (self.ends_at + grace_s, self.ends_at, now if self.told else self._notice_at)
        return min((moment for moment in moments if moment > now), default=now)
