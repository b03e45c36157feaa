"""One answer for all who ask for the same thing at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from anyio import Event

from server.engine.source import SourceFailure
from server.upstream.failures import again

__all__ = ["Flights"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Landed(Generic[V]):
    """A call that came to an end by itself: it has a value, or a failure."""

    __slots__ = ("failure", "value")

    def __init__(self, value: V | None, failure: Exception | None) -> None:
        self.value = value
        self.failure = failure


class _Flight(Generic[V]):
    __slots__ = ("ended", "landed")

    def __init__(self) -> None:
        self.ended = Event()
        self.landed: _Landed[V] | None = None


class Flights(Generic[K, V]):
    """Joins concurrent calls of one key.

    The first caller makes the call, in its own task; the others wait for it. Where the first is cancelled,
    the next of those who wait makes the call anew: nobody's leaving costs another the answer, and nothing
    runs that nobody waits for.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}
        self.joined = 0
        """Callers who got the answer of somebody else's call."""

    async def join(self, key: K, call: Callable[[], Awaitable[V]]) -> V:
        """The answer of `call`, or of the one under way. A SourceFailure reaches everybody as it is; any
        other exception reaches those who waited as the cause of a SourceFailure."""
        while True:
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(key, call)
            await flight.ended.wait()
            if flight.landed is not None:
                self.joined += 1
                return _unpack(flight.landed)

    async def _lead(self, key: K, call: Callable[[], Awaitable[V]]) -> V:
        flight = self._flights[key] = _Flight[V]()
        try:
            value = await call()
            flight.landed = _Landed(value, None)
            return value
        except Exception as failure:
            flight.landed = _Landed[V](None, failure)
            raise
        finally:
            del self._flights[key]
            flight.ended.set()


def _unpack(landed: _Landed[V]) -> V:
    if isinstance(landed.failure, SourceFailure):
        raise again(landed.failure)
    if landed.failure is not None:
        raise SourceFailure("the source failed unexpectedly") from landed.failure
    return landed.value  # pyright: ignore[reportReturnType] -- without a failure there is a value, which V may let be None
