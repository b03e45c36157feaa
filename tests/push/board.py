"""A source whose items a test sets by hand, and one that hangs until it is let go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
from pydantic import BaseModel, Field

from protocol.feed import ContextEntry, FeedItem, Signals
from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from server.engine.context import Context
from server.engine.source import ActionSpec, FeedSource
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services

__all__ = ["BOARD", "Board", "BoardSource", "Slow"]

BOARD = SourceId("test.board")
AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


class BoardConfig(ConfigModel):
    title: str = Field("board", max_length=100)
    tags: tuple[str, ...] = ()


class Say(ConfigModel):
    text: str = Field(max_length=100)


class BoardSource(FeedSource):
    """Shows what it is told to."""

    id: str = BOARD
    refresh_every_s = 0.0

    def __init__(self, board: Board, user: UserId) -> None:
        self._board = board
        self._user = user

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        self._board.fetched += 1
        return self.items()

    def items(self) -> list[FeedItem]:
        shown = self._board.shown.get(self._user, {})
        return [
            self.item(
                name,
                type="note",
                timestamp=AT,
                data={"text": text},
                signals=Signals(urgency=self._board.urgencies.get(name)),
            )
            for name, text in shown.items()
        ]

    def actions(self) -> Sequence[ActionSpec]:
        return [ActionSpec("say", "Say", params=Say), ActionSpec("hang", "Hang")]

    async def execute_action(self, action_id: str, params: BaseModel | None) -> JsonValue:
        if action_id == "hang":
            self._board.hanging.set()
            await anyio.sleep_forever()
        assert isinstance(params, Say)
        self._board.said.append(params.text)
        if self._board.gate is not None:
            await self._board.gate.wait()
        self._board.finished.append(params.text)
        return {"said": params.text}


class Board(FeedProvider[BoardConfig]):
    """Keeps the sources it made, by user, and what they show."""

    source_id = BOARD
    name = "Board"
    config_schema = BoardConfig
    default_row = True

    def __init__(self) -> None:
        self.sources: dict[UserId, BoardSource] = {}
        self.shown: dict[UserId, dict[str, str]] = {}
        self.urgencies: dict[str, float] = {}
        self.said: list[str] = []
        self.finished: list[str] = []
        self.fetched = 0
        self.hanging = anyio.Event()
        self.gate: anyio.Event | None = None

    async def source_for_user(
        self, user: UserId, config: BoardConfig, credentials: BaseModel | None, services: Services
    ) -> FeedSource:
        source = self.sources[user] = BoardSource(self, user)
        return source

    def show(self, user: UserId, **texts: str) -> None:
        """The user's board shows these notes, in this order, from now on."""
        self.shown[user] = texts
        if user in self.sources:
            self.sources[user].handle.push_items(self.sources[user].items())

    def tell(self, user: UserId, *entries: ContextEntry) -> None:
        """The board's context is this from now on."""
        self.sources[user].handle.push_context(entries)


class Slow(FeedProvider[BoardConfig]):
    """Answers when its gate is opened."""

    source_id = SourceId("test.slow")
    name = "Slow"
    config_schema = BoardConfig
    default_row = True

    def __init__(self) -> None:
        self.gate = anyio.Event()

    async def source_for_user(
        self, user: UserId, config: BoardConfig, credentials: BaseModel | None, services: Services
    ) -> FeedSource:
        return _SlowSource(self.gate)


class _SlowSource(FeedSource):
    id = "test.slow"
    refresh_every_s = 0.0

    def __init__(self, gate: anyio.Event) -> None:
        self._gate = gate

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        await self._gate.wait()
        return [self.item("late", type="note", timestamp=AT, data={"text": "late"})]
