"""Sources that a test holds by strings: it decides when they are built, what they say, how they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import ClassVar

import anyio
import anyio.lowlevel
from pydantic import BaseModel, Field, SecretStr

from protocol.feed import ContextEntry, FeedItem
from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from server.engine.context import Context
from server.engine.source import ActionSpec, FeedSource
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services

__all__ = [
    "STAGE",
    "Gate",
    "GreetParams",
    "Password",
    "Stage",
    "StageConfig",
    "StageSettings",
    "StageSource",
]

STAGE = SourceId("test.stage")
AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


class StageConfig(ConfigModel):
    text: str = Field("hello", max_length=100)
    url: str = "https://one.example"
    count: int = Field(1, ge=0, le=50)
    since: date | None = None
    tags: tuple[str, ...] = ()


class Password(ConfigModel):
    password: SecretStr = Field(min_length=3)


class StageSettings(ConfigModel):
    api_key: str = Field(min_length=3)


class GreetParams(ConfigModel):
    name: str = Field(max_length=20)
    on: date | None = None


class Gate:
    """Something that a test keeps closed for a while, and who stands before it."""

    def __init__(self) -> None:
        self.arrived = anyio.Event()
        self._open = anyio.Event()

    def open(self) -> None:
        self._open.set()

    async def pass_(self) -> None:
        self.arrived.set()
        await self._open.wait()


@dataclass
class Built:
    """One call of the provider."""

    user: UserId
    config: StageConfig
    password: str | None
    settings: str | None


class StageSource(FeedSource):
    """Shows `count` items with its text, and whatever the provider's hooks say."""

    id: str = STAGE

    def __init__(self, stage: Stage, built: Built) -> None:
        self.id = stage.source_id
        self.dependencies = stage.dependencies
        self.stage = stage
        self.built = built
        self.closed = False
        self.greeted: list[tuple[str, BaseModel | None]] = []

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry] | None:
        return [self.entry("text", value=self.built.config.text)]

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem] | None:
        if self.stage.on_fetch is not None:
            await self.stage.on_fetch(self)
        return self.items()

    def items(self, text: str | None = None) -> list[FeedItem]:
        config = self.built.config
        data = {"text": text or config.text, "settings": self.built.settings}
        return [self.item(str(index), type="text", timestamp=AT, data=data) for index in range(config.count)]

    def actions(self) -> Sequence[ActionSpec]:
        if self.stage.on_actions is not None:
            self.stage.on_actions()
        return [
            ActionSpec("greet", "Greet", params=GreetParams),
            ActionSpec("plain", "Do it"),
        ]

    async def execute_action(self, action_id: str, params: BaseModel | None) -> JsonValue:
        self.greeted.append((action_id, params))
        if self.stage.on_action is not None:
            return await self.stage.on_action(action_id, params)
        return {"count": len(self.greeted)}

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()  # as one that says good-bye over a wire
        self.closed = True
        self.stage.closed.append(self)


@dataclass
class Stage(FeedProvider[StageConfig, Password, StageSettings]):
    """A provider with hooks. Counts what it is asked to build."""

    source_id: SourceId = STAGE
    name: str = "Stage"
    dependencies: Sequence[str] = ()
    on_build: Callable[[Built], Awaitable[None]] | None = None
    on_validate: Callable[[Password], Awaitable[None]] | None = None
    on_fetch: Callable[[StageSource], Awaitable[None]] | None = None
    on_action: Callable[[str, BaseModel | None], Awaitable[JsonValue]] | None = None
    on_actions: Callable[[], None] | None = None
    built: list[Built] = field(default_factory=list[Built])
    made: list[StageSource] = field(default_factory=list[StageSource])
    closed: list[StageSource] = field(default_factory=list[StageSource])
    settings: str | None = None

    config_schema: ClassVar[type[StageConfig]] = StageConfig  # pyright: ignore[reportIncompatibleVariableOverride] -- a dataclass field otherwise
    credentials_schema: ClassVar[type[Password]] = Password  # pyright: ignore[reportIncompatibleVariableOverride] -- as above
    settings_schema: ClassVar[type[StageSettings]] = StageSettings  # pyright: ignore[reportIncompatibleVariableOverride] -- as above
    credential_targets = frozenset({"url"})

    async def source_for_user(
        self, user: UserId, config: StageConfig, credentials: Password | None, services: Services
    ) -> FeedSource:
        password = None if credentials is None else credentials.password.get_secret_value()
        built = Built(user, config, password, self.settings)
        self.built.append(built)
        if self.on_build is not None:
            await self.on_build(built)
        source = StageSource(self, built)
        self.made.append(source)
        return source

    async def validate_credentials(
        self, user: UserId, config: StageConfig, credentials: Password, services: Services
    ) -> None:
        if self.on_validate is not None:
            await self.on_validate(credentials)

    def configure(self, settings: StageSettings | None) -> None:
        self.settings = None if settings is None else settings.api_key
