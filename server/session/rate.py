"""How often a user may make the server ask the outside world on their behalf."""

from __future__ import annotations

from math import ceil
from typing import Final

from protocol.errors import RateLimited
from protocol.ids import UserId
from server.engine.clock import Clock

__all__ = ["UserRate"]

# Users remembered; a user whose allowance is whole again need not be.
_MAX_USERS: Final = 10_000


class UserRate:
    """A token bucket for each user: `burst` at once, then one every `every_s` seconds."""

    def __init__(self, clock: Clock, *, burst: int, every_s: float) -> None:
        self._clock = clock
        self._every_s = every_s
        self._span_s = burst * every_s
        # When the user's bucket is full again: the only number a bucket needs. The longest unused first.
        self._full_at: dict[UserId, float] = {}

    def take(self, user: UserId) -> None:
        """Counts one. Raises RateLimited, which says when to come again, and then counts nothing."""
        now = self._clock.monotonic()
        full_at = max(self._full_at.get(user, now), now) + self._every_s
        too_soon_s = full_at - now - self._span_s
        if too_soon_s > 1e-9:
            raise RateLimited(max(1, ceil(too_soon_s * 1000)))
        self._full_at.pop(user, None)
        self._full_at[user] = full_at
        if len(self._full_at) > _MAX_USERS:
            self._forget(now)

    def _forget(self, now: float) -> None:
        for user in [user for user, full_at in self._full_at.items() if full_at <= now]:
            del self._full_at[user]
        while len(self._full_at) > _MAX_USERS:
            # Then the one not seen for the longest is let off.
            del self._full_at[next(iter(self._full_at))]
