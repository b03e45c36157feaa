"""What a provider is given to build sources with: the clock, the way to write, the knobs.

One `Services` serves the whole process. It holds no user: whoever writes says for whom.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from protocol.ids import UserId
from server.engine.clock import Clock
from storage.database import WriteTx

__all__ = ["Services", "SourceOptions", "UserWrites"]

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
class SourceOptions:
    """What an operator sets for the built-in sources. Providers take what they need when they are made."""

    synthetic: bool = False
    """Whether `freya.synthetic`, which makes items for load tests, is offered at all."""


@dataclass(frozen=True, slots=True)
class Services:
    """Handed to every `source_for_user`."""

    clock: Clock
    writes: UserWrites
    options: SourceOptions = field(default_factory=SourceOptions)
