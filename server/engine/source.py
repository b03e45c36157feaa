"""What a source is: the base class that all sources extend, and what they and the engine hand each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Protocol

import orjson
from pydantic import BaseModel

from protocol.feed import ContextEntry, ErrorCode, FeedItem, Signals, Slot
from protocol.frozen import JsonValue
from server.engine.context import Context

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "ActionSpec",
    "Answer",
    "BadAnswer",
    "ConfigProblem",
    "FeedSource",
    "RateLimited",
    "SourceFailure",
    "SourceHandle",
    "Unauthorized",
    "Unreachable",
]


class SourceFailure(Exception):
    """What a source (or its provider) raises to say why it has no answer.

    `message` is shown to the user: one sentence, with no upstream body, URL query or key in it.
    `retry_after_s` is how long the upstream asks to be left alone. Anything else that a source raises is
    shown as `internal`, without its text.

    SourceFailure            internal: our own mistake, unless a `code` says otherwise
      Unauthorized           the credentials are refused: the user must connect again
      Unreachable            no connection, no answer in time, or the upstream is down
      RateLimited            the upstream asks for fewer calls
      BadAnswer              an answer that makes no sense
      ConfigProblem          the config names something that does not exist
    """

    code: ErrorCode = "internal"

    def __init__(
        self, message: str, *, code: ErrorCode | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code


class Unauthorized(SourceFailure):
    """The upstream refuses the credentials."""

    code = "unauthorized"


class Unreachable(SourceFailure):
    """The upstream cannot be reached, does not answer in time, or is down."""

    code = "unreachable"


class RateLimited(SourceFailure):
    """The upstream asks for fewer calls."""

    code = "rateLimited"


class BadAnswer(SourceFailure):
    """The upstream's answer makes no sense."""

    code = "badAnswer"


class ConfigProblem(SourceFailure):
    """The config is well-formed, and names what does not exist or cannot work."""

    code = "config"


@dataclass(frozen=True, slots=True)
class Answer:
    """A source's whole list of items, and when time alone will change it (UTC; None: never)."""

    items: tuple[FeedItem, ...] = ()
    next_change_at: datetime | None = None

    @classmethod
    def of(cls, items: Iterable[FeedItem], next_change_at: datetime | None = None) -> Self:
        """An answer of any iterable."""
        return cls(tuple(items), next_change_at)


class SourceHandle(Protocol):
    """The engine, as one source sees it.

    Nothing here waits. Everything may be called at any time from the event loop's thread, also in the middle
    of a fetch, and is ignored once the source is closed, swapped or removed. What is pushed is used as it is;
    a fetch that began earlier and answers later does not overwrite it: the last report wins.
    """

    def push_context(self, entries: Sequence[ContextEntry]) -> None:
        """Reports the source's whole context: what it gave before and is not in here is withdrawn."""
        ...

    def push_items(self, items: Answer | Sequence[FeedItem]) -> None:
        """Reports the source's whole list of items."""
        ...

    def request_refresh(self) -> None:
        """Asks to be asked: once, soon; once more after the call that is under way, if there is one."""
        ...

    def now(self) -> datetime:
        """The engine's wall clock, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """Something a user can do with a source. `params` validates the input before the source sees it."""

    id: str
    label: str
    description: str | None = None
    params: type[BaseModel] | None = None

    def info(self) -> dict[str, JsonValue]:
        """The protocol's ActionInfo; the input as JSON Schema 2020-12."""
        info: dict[str, JsonValue] = {"id": self.id, "label": self.label}
        if self.description is not None:
            info["description"] = self.description
        if self.params is not None:
            info["inputSchema"] = self.params.model_json_schema(by_alias=True)
        return info


class FeedSource:
    """One source of one user: extend it, set `id`, override what the source can do.

    A source reports in two ways: the engine asks (`fetch_context`, `fetch_items`), or the source pushes
    through `handle`. Each report is the whole of what the source has, context and items apart. `None` from
    `fetch_context`, `fetch_items` or `reconsider` means "no news": what was reported last stays. An empty
    list means that there is nothing.

    At most one call is in flight. Every call may be cancelled at any await, and is, past `timeout_s`.
    Context entries are keyed `(source id, ...)`. Item ids are `source id/local id`: `item()` makes them so.
    """

    id: str
    """Reverse domain; the same for every user."""

    dependencies: Sequence[str] = ()
    """Ids of the sources whose context this one reads. Without them it is `blocked`. Read once."""

    uses: Sequence[str] = ()
    """Ids of sources whose context it reads where they are there; without them it runs all the same. Read
    once."""

    refresh_every_s: float = 300.0
    """How often it is asked while somebody listens (about: there is jitter); 0 or less: never by itself."""

    stale_after_s: float = 3600.0
    """How long its last good report is still shown while it fails."""

    timeout_s: float = 10.0
    """How long one call may take."""

    answers_at_once: bool = False
    """Whether its fetches never wait for anything: what it says follows from what it has. Then they are asked
    and done in one step, without a task and without `timeout_s`; one that waits all the same has failed."""

    _handle: SourceHandle | None = None

    fetches_context: ClassVar[bool] = False
    fetches_items: ClassVar[bool] = False
    reconsiders: ClassVar[bool] = False
    closes: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        # What is not overridden is not asked: no task is started to learn that there is nothing.
        super().__init_subclass__(**kwargs)
        cls.fetches_context = cls.fetch_context is not FeedSource.fetch_context
        cls.fetches_items = cls.fetch_items is not FeedSource.fetch_items
        cls.reconsiders = cls.reconsider is not FeedSource.reconsider
        cls.closes = cls.aclose is not FeedSource.aclose

    def attach(self, handle: SourceHandle) -> None:
        """Called once, before anything else, when the engine takes the source in. May push at once."""
        self._handle = handle

    @property
    def handle(self) -> SourceHandle:
        """The way to the engine. Raises RuntimeError before `attach`."""
        if self._handle is None:
            raise RuntimeError(f"{self.id} is not attached to an engine yet")
        return self._handle

    @property
    def attached(self) -> bool:
        """Whether an engine has taken the source in."""
        return self._handle is not None

    def item(
        self,
        local_id: str,
        *,
        type: str,  # noqa: A002 -- the protocol's own word for it
        timestamp: datetime,
        data: Mapping[str, object],
        signals: Signals | None = None,
        slots: Mapping[str, Slot] | None = None,
        ui: object = None,
        expires_at: datetime | None = None,
    ) -> FeedItem:
        """An item of this source. Raises ValueError, with the path, for what cannot be on the wire."""
        return FeedItem.make(
            id=f"{self.id}/{local_id}",
            source_id=self.id,
            type=type,
            timestamp=timestamp,
            data=data,
            signals=signals,
            slots=slots,
            ui=ui,
            expires_at=expires_at,
        )

    def entry(self, *key: str | int | float, value: object) -> ContextEntry:
        """A context entry of this source, under `(id, *key)`. Raises ValueError for what is not JSON."""
        return ContextEntry.make((self.id, *key), value)

    def input_key(self, ctx: Context) -> Hashable:
        """What of the context the answer depends on: while it is equal to the last, nothing is asked again.

        By default all entries of the sources it depends on or uses. Override it to be asked less (weather:
        the grid square). Must be quick; a plain value (strings, numbers, tuples), since it also outlives the
        process.
        """
        read = (*self.dependencies, *self.uses)
        return tuple([entry.encoded for name in read for entry in ctx.find((name,))])

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry] | None:
        """The source's whole context now. Raise a SourceFailure when it can't be had."""
        raise NotImplementedError

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem] | Answer | None:
        """The source's whole list of items now; `ctx` has its own context already. Raise a SourceFailure
        when it can't be had."""
        raise NotImplementedError

    def reconsider(self, ctx: Context) -> Answer | None:
        """What time alone has changed: called at an answer's `next_change_at`. No upstream call, no waiting.

        A source that has no `fetch_items` is also asked here when its `input_key` changes or it is refreshed.
        """
        raise NotImplementedError

    def actions(self) -> Sequence[ActionSpec]:
        """What a user can do with it."""
        return ()

    async def execute_action(self, action_id: str, params: BaseModel | None) -> JsonValue:
        """Does one of `actions()`; `params` is an instance of that action's model. Raise a SourceFailure to
        say why it can't be done."""
        raise SourceFailure(f"{self.id} has no action {action_id}")

    def dismiss_key(self, item: FeedItem) -> bytes:
        """What must change for a dismissed item to come back; by default any of its data."""
        return orjson.dumps(item.data, option=orjson.OPT_SORT_KEYS)

    async def aclose(self) -> None:
        """Lets go of everything. Called once; whatever is in flight has been cancelled before."""
