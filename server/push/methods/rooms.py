"""What the handlers reach for, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol.ids import ReplicaId, UserId
from server.push.feeds import Feeds
from server.push.hub import Hub
from server.push.registry import Registry
from server.session.actions import Actions
from server.session.items import ItemWrites
from server.session.manager import SessionManager
from server.session.patches import SourceWrites
from server.session.providers import ProviderWrites
from server.session.users import UserWrites
from server.tokens.verifier import TokenVerifier

__all__ = ["Alone", "Replicas", "Rooms"]


class Replicas(Protocol):
    """The other replicas, as far as an operator's questions go."""

    async def inspect(self, user: UserId) -> tuple[list[Mapping[str, object]], list[str]]:
        """What the others say of the user (`ReplicaView` objects), and the names of those that did not answer
        within a second or two. Never raises but for cancellation."""
        ...

    def total(self, own: Mapping[str, float]) -> Mapping[str, float]:
        """These numbers of this replica and the same ones of the others, added up, and how many `replicas`
        they come from."""
        ...

    def each(self) -> Sequence[tuple[ReplicaId, Mapping[str, float]]]:
        """The same numbers of each of the others."""
        ...


class Alone:
    """There are no other replicas."""

    async def inspect(self, user: UserId) -> tuple[list[Mapping[str, object]], list[str]]:
        """Nobody to ask."""
        return [], []

    def total(self, own: Mapping[str, float]) -> Mapping[str, float]:
        """Nobody to add."""
        return {"replicas": 1, **own}

    def each(self) -> Sequence[tuple[ReplicaId, Mapping[str, float]]]:
        """Nobody."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Everything a handler may need."""

    hub: Hub
    feeds: Feeds
    registry: Registry
    manager: SessionManager
    sources: SourceWrites
    items: ItemWrites
    actions: Actions
    users: UserWrites
    providers: ProviderWrites
    verifier: TokenVerifier
    replicas: Replicas
