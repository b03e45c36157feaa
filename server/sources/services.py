"""What a provider is given to build sources with: the clock, the way to write, the knobs.

One `Services` serves the whole process. It holds no user: whoever writes says for whom.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from protocol.ids import UserId
from server.engine.clock import Clock
from server.upstream.upstreams import Upstreams
from storage.database import WriteTx

__all__ = ["Services", "SourceOptions", "UserWrites", "WeatherKitKey"]

T = TypeVar("T")


class UserWrites(Protocol):
    """The one way in which a source writes."""

    async def write(self, user: UserId, fn: Callable[[WriteTx], Awaitable[T]]) -> T:
        """Runs `fn` in a transaction of this user, and returns its result once the session knows the rows.

        Guarantee: on return the write is committed, the user's live session (if there is one) has been made
        equal to the rows, `restore` included, and the other replicas have been told. Raises what `fn` raises
        (then nothing is written) and `StorageUnavailable`. Cancelled before COMMIT: nothing is written; from
        COMMIT on the rest happens in any case. `fn` must not wait for anything but the transaction, which
        holds the user's write lock, and may be called more than once.
        """
        ...


@dataclass(frozen=True, slots=True)
class WeatherKitKey:
    """What Apple gives an operator for WeatherKit."""

    private_key: str = field(repr=False)
    """PEM, of a P-256 key."""
    key_id: str
    team_id: str
    service_id: str


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What an operator sets for the built-in sources. Providers take what they need when they are made."""

    synthetic: bool = False
    """Whether `freya.synthetic`, which makes items for load tests, is offered at all."""

    open_meteo_url: str = "https://api.open-meteo.com"
    weatherkit_url: str = "https://weatherkit.apple.com"
    weatherkit_key: WeatherKitKey | None = None
    """With it, the weather comes from Apple."""
    tfl_url: str = "https://api.tfl.gov.uk"
    tfl_api_key: str | None = field(default=None, repr=False)
    listenbrainz_url: str = "https://api.listenbrainz.org"


@dataclass(frozen=True, slots=True)
class Services:
    """Handed to every `source_for_user`."""

    clock: Clock
    writes: UserWrites
    options: SourceOptions = field(default_factory=SourceOptions)
    upstreams: Upstreams | None = None

    @property
    def outside(self) -> Upstreams:
        """The ways out of the process. Raises RuntimeError where none are open: that is a mistake of whoever
        made these services, not of a source."""
        if self.upstreams is None:
            raise RuntimeError("no upstreams are open")
        return self.upstreams
