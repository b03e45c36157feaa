"""freya.inbox: what backend services publish for the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import structlog
from pydantic import BaseModel

from protocol.feed import FeedItem
from protocol.ids import SourceId, UserId
from protocol.times import to_wire
from server.engine.context import Context
from server.sources.provider import FeedProvider, NoConfig
from server.sources.services import Services
from server.sources.stored import StoredSource
from storage.inbox import InboxRow
from storage.loading import UserRows

__all__ = ["INBOX_ID", "InboxProvider", "InboxSource", "inbox_item", "inbox_item_id"]

INBOX_ID: Final = SourceId("freya.inbox")

_log = structlog.get_logger()


def inbox_item_id(publisher: str, local_id: str) -> str:
    """The id in the feed of what a publisher calls `local_id`: no two publishers share one, whatever their
    names look like. The first dot ends the publisher's name, so a dot in the name itself is escaped too."""
    return f"{INBOX_ID}/{quote(publisher, safe='').replace('.', '%2E')}.{quote(local_id, safe='')}"


def inbox_item(row: InboxRow) -> FeedItem:
    """The feed's item of a stored one. Without a time of its own it has that of its publication.

    Raises ValueError for a row that cannot be shown.
    """
    wire = {"timestamp": to_wire(row.published_at), **row.item}
    return FeedItem.from_wire({**wire, "id": inbox_item_id(row.publisher, row.id), "sourceId": INBOX_ID})


class InboxSource(StoredSource):
    """The stored items, the last published first. The engine hides each at its `expiresAt`."""

    id = INBOX_ID
    refresh_every_s = 0
    answers_at_once = True

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str], tuple[InboxRow, FeedItem]] = {}

    def restore(self, rows: UserRows) -> None:
        before, shown = self._shown, dict[tuple[str, str], tuple[InboxRow, FeedItem]]()
        for row in reversed(rows.inbox):
            name = row.publisher, row.id
            old = before.get(name)
            one = old if old is not None and old[0] == row else _made(row)
            if one is not None:
                shown[name] = one
        self._shown = shown
        # Lists, since a dict does not compare the order of its entries.
        if self.attached and list(shown.items()) != list(before.items()):
            self.handle.push_items(self._items())

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        return self._items()

    def _items(self) -> tuple[FeedItem, ...]:
        return tuple(item for _, item in self._shown.values())


def _made(row: InboxRow) -> tuple[InboxRow, FeedItem] | None:
    try:
        return row, inbox_item(row)
    except ValueError:
        # Checked when it was published: only a row of another release gets here, and costs itself alone.
        _log.warning("inbox_item_unreadable", item=inbox_item_id(row.publisher, row.id))
        return None


class InboxProvider(FeedProvider[NoConfig]):
    """Makes `freya.inbox`."""

    source_id = INBOX_ID
    name = "Inbox"
    config_schema = NoConfig
    builds_at_once = True
    default_row = True

    async def source_for_user(
        self, user: UserId, config: NoConfig, credentials: BaseModel | None, services: Services
    ) -> InboxSource:
        return InboxSource()
