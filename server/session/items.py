"""`item.*`: what services publish for users, and what users send away.

All of it is stored first; sessions, where there are any, follow from the rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import orjson
from anyio import CapacityLimiter, create_task_group

from protocol.errors import InvalidParams, Issue, LimitReached, StorageUnavailableError
from protocol.feed import FeedItem
from protocol.frozen import JsonObject
from protocol.ids import UserId
from protocol.messages.objects import PublishItem
from server.session.errors import SessionUnavailable
from server.session.manager import SessionManager
from server.sources.inbox import inbox_item
from storage import dismissals, inbox, users
from storage.database import WriteTx
from storage.errors import StorageUnavailable, Unchanged
from storage.inbox import InboxItem, InboxRow

__all__ = ["MAX_FEEDS", "MAX_ITEMS", "MAX_ITEM_BYTES", "ItemWrites", "Published", "Reach"]

MAX_FEEDS: Final = 500
MAX_ITEMS: Final = 100
MAX_ITEM_BYTES: Final = 32 * 1024

Reach: TypeAlias = Callable[[Sequence[UserId]], Mapping[UserId, int]]
"""How many foreground connections each of these feeds reaches now, as far as this replica knows."""


@dataclass(frozen=True, slots=True)
class Published:
    """How many feeds took the items, and whom they reach."""

    accepted: int
    reachable: Mapping[UserId, int]


class ItemWrites:
    """The writes of `item.*`. Who may name which feed is decided before."""

    def __init__(self, manager: SessionManager, reach: Reach) -> None:
        self._manager = manager
        self._reach = reach

    async def publish(
        self, publisher: str, feeds: Sequence[UserId], items: Sequence[PublishItem]
    ) -> Published:
        """Puts the items into these users' inboxes: all of them or none, feed by feed. Ids are the
        publisher's own; the same id replaces. Users never seen before get an inbox; no session is made.

        Raises LimitReached and InvalidParams, then nothing is stored; StorageUnavailableError, with outcome
        "unknown" where some feeds may have taken them: it is safe to publish again.
        """
        _check_limits(feeds, len(items))
        rows = [self._checked(publisher, index, item) for index, item in enumerate(items)]

        async def store(user: UserId) -> int:
            async def put(tx: WriteTx) -> int:
                return await inbox.publish(tx, user, publisher, rows)

            await self._manager.write(user, put)
            return 1

        accepted = await self._each(feeds, store)
        return Published(accepted, dict(self._reach(feeds)))

    async def retract(self, publisher: str, feeds: Sequence[UserId], ids: Sequence[str]) -> int:
        """Takes this publisher's items back; how many there were. Raises as `publish` does."""
        _check_limits(feeds, 0)

        async def take(user: UserId) -> int:
            async def delete(tx: WriteTx) -> int:
                removed = await inbox.retract(tx, user, publisher, ids)
                if not removed:
                    raise Unchanged
                return removed

            # Nobody is made into a user by what is taken from them.
            if not await users.exists(self._manager.setup.database, user):
                return 0
            try:
                return await self._manager.write(user, delete)
            except Unchanged:
                return 0

        return await self._each(feeds, take)

    async def dismiss(self, user: UserId, item_id: str) -> None:
        """Takes an item out of the feed until its content changes; one that is not there is no mistake.

        Raises StorageUnavailableError.
        """
        try:
            session = await self._manager.get_or_create(user)
        except SessionUnavailable as problem:
            raise StorageUnavailableError("none") from problem
        row = session.dismissal(item_id)
        if row is None and session.history.current.state.pending:
            # Somebody sees it, from another session or from before a restart; here it is on its way.
            await session.answered(self._manager.setup.options.settle_s)
            row = session.dismissal(item_id)
        if row is None:
            return

        async def add(tx: WriteTx) -> None:
            await dismissals.add(tx, user, row.item_id, row.hash, row.until)

        try:
            await self._manager.write(user, add)
        except StorageUnavailable as problem:
            raise StorageUnavailableError(problem.outcome) from problem

    def _checked(self, publisher: str, index: int, item: PublishItem) -> InboxItem:
        """What is stored of an item. Raises where the feed could not show it later."""
        wire = cast("JsonObject", item.model_dump(mode="json", exclude_none=True))
        if len(orjson.dumps(wire)) > MAX_ITEM_BYTES:
            raise LimitReached("itemBytes", MAX_ITEM_BYTES)
        now = self._manager.setup.clock.now()
        row = InboxRow(publisher, item.id, wire, item.expires_at, now, (0, 0))
        try:
            shown: FeedItem = inbox_item(row)
        except ValueError as wrong:
            raise InvalidParams([Issue(("items", index), str(wrong))]) from None
        if len(shown.encoded) > MAX_ITEM_BYTES:
            raise LimitReached("itemBytes", MAX_ITEM_BYTES)
        return InboxItem(item.id, wire, item.expires_at)

    async def _each(self, feeds: Sequence[UserId], do: Callable[[UserId], Awaitable[int]]) -> int:
        """Does it for every feed, several at once; the sum. One that fails does not keep the others."""
        limit = CapacityLimiter(self._manager.setup.options.concurrency)
        done: list[int] = []
        problems: list[StorageUnavailable] = []

        async def one(user: UserId) -> None:
            async with limit:
                # The store being away is not waited for five hundred times.
                if not problems:
                    try:
                        done.append(await do(user))
                    except StorageUnavailable as problem:
                        problems.append(problem)

        async with create_task_group() as group:
            for user in dict.fromkeys(feeds):
                group.start_soon(one, user)
        if problems:
            sure = not done and all(problem.outcome == "none" for problem in problems)
            raise StorageUnavailableError("none" if sure else "unknown") from problems[0]
        return sum(done)


def _check_limits(feeds: Sequence[UserId], items: int) -> None:
    if len(feeds) > MAX_FEEDS:
        raise LimitReached("feeds", MAX_FEEDS)
    if items > MAX_ITEMS:
        raise LimitReached("items", MAX_ITEMS)
