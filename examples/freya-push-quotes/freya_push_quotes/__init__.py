"""A quote a day, as a source for Freya Push."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel, Field

from protocol.feed import FeedItem, Signals
from protocol.ids import SourceId, UserId
from server.engine.context import Context
from server.engine.source import Answer, FeedSource
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services
from server.sources.user import USER_ID, user_settings
from server.sources.zones import local_midnight

__all__ = ["QuotesConfig", "QuotesProvider", "QuotesSource"]

QUOTES_ID = SourceId("com.example.quotes")

QUOTES = (
    ("Well begun is half done.", "Aristotle"),
    ("The obstacle is the way.", "Marcus Aurelius"),
    ("Simplicity is prerequisite for reliability.", "Edsger W. Dijkstra"),
)


class QuotesConfig(ConfigModel):
    """What a user can set. A settings screen draws its form from this."""

    author: str | None = Field(
        default=None, max_length=100, title="Author", description="Show quotes of this author alone."
    )


class QuotesSource(FeedSource):
    """One item, another one each day."""

    id = QUOTES_ID
    uses = (USER_ID,)  # the user's time zone, if it is known
    refresh_every_s = 0  # nothing to ask for: only the date changes it

    def __init__(self, config: QuotesConfig) -> None:
        self._quotes = [each for each in QUOTES if config.author in (None, each[1])]

    def reconsider(self, ctx: Context) -> Answer:
        """Asked at the start, whenever the user's settings change, and at `next_change_at`."""
        zone = user_settings(ctx).zone
        today = ctx.time.astimezone(zone).date()
        items: Sequence[FeedItem] = ()
        if self._quotes:
            text, author = self._quotes[today.toordinal() % len(self._quotes)]
            # The same id every day: clients see one card change, not one go and another come.
            item = self.item(
                "today",
                type="quote",
                timestamp=local_midnight(today, zone),
                data={"text": text, "author": author},
                signals=Signals(0.1, "ambient"),
            )
            items = (item,)
        return Answer.of(items, local_midnight(today + timedelta(days=1), zone))


class QuotesProvider(FeedProvider[QuotesConfig]):
    """Makes a source for each user who wants one."""

    source_id = QUOTES_ID
    name = "Quotes"
    config_schema = QuotesConfig

    async def source_for_user(
        self, user: UserId, config: QuotesConfig, credentials: BaseModel | None, services: Services
    ) -> QuotesSource:
        return QuotesSource(config)
