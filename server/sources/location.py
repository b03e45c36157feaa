"""freya.location: where the user is, as their devices report it. No items: other sources read it as
context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from anyio import Lock
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field

from protocol.feed import ContextEntry, ContextKey
from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from protocol.times import from_wire, to_wire
from server.engine.context import Context
from server.engine.source import ActionSpec, SourceFailure
from server.sources.provider import ConfigModel, FeedProvider, NoConfig
from server.sources.services import Services
from server.sources.stored import StoredSource
from server.sources.zones import whole_ms
from storage import source_state
from storage.database import WriteTx
from storage.errors import StorageUnavailable, Unchanged
from storage.loading import UserRows

__all__ = [
    "LOCATION_ID",
    "LOCATION_KEY",
    "Fix",
    "LocationProvider",
    "LocationSource",
    "UpdateLocation",
    "last_fix",
]

LOCATION_ID: Final = SourceId("freya.location")
LOCATION_KEY: Final[ContextKey] = (LOCATION_ID, "location")

# A phone's clock may be a little ahead of ours. A fix from further ahead would shut out the true ones that
# follow.
_AHEAD_MAX: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Fix:
    """A position that was reported."""

    lat: float
    lng: float
    accuracy: float | None
    """Radius in metres, where the device knows it."""
    timestamp: datetime

    def wire(self) -> dict[str, JsonValue]:
        """As it is in context, and stored."""
        return {
            "lat": self.lat,
            "lng": self.lng,
            "accuracy": self.accuracy,
            "timestamp": to_wire(self.timestamp),
        }

    @classmethod
    def from_wire(cls, value: JsonValue) -> Fix | None:
        """The other way round; None for what is no fix."""
        if not isinstance(value, Mapping):
            return None
        lat, lng, timestamp = value.get("lat"), value.get("lng"), value.get("timestamp")
        if not (
            isinstance(lat, (int, float)) and isinstance(lng, (int, float)) and isinstance(timestamp, str)
        ):
            return None
        accuracy = value.get("accuracy")
        try:
            return cls(
                float(lat),
                float(lng),
                float(accuracy) if isinstance(accuracy, (int, float)) else None,
                from_wire(timestamp),
            )
        except ValueError:
            return None


def last_fix(ctx: Context) -> Fix | None:
    """Where the user was last, as far as is known."""
    return Fix.from_wire(ctx.get(LOCATION_KEY))


def _epoch_ms(value: object) -> object:
    """Numbers are milliseconds since 1970, as phones and JavaScript count; pydantic takes small ones for
    seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return _EPOCH + timedelta(milliseconds=value)
        except (OverflowError, ValueError):
            raise ValueError("not a time in milliseconds since 1970") from None
    return value


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UpdateLocation(ConfigModel):
    """Params of `update-location`."""

    lat: float = Field(ge=-90, le=90, title="Latitude", description="Degrees north.")
    lng: float = Field(ge=-180, le=180, title="Longitude", description="Degrees east.")
    accuracy: Annotated[float, Field(ge=0)] | None = Field(
        default=None, title="Accuracy", description="Radius in metres."
    )
    timestamp: Annotated[AwareDatetime, BeforeValidator(_epoch_ms), AfterValidator(whole_ms)] | None = Field(
        default=None,
        title="Time",
        description="When it was measured: ISO 8601 with an offset, or ms since 1970. Now, if not given.",
    )


class _Report:
    """A fix on its way into the store, and what became of it."""

    __slots__ = ("accepted", "failure", "fix")

    def __init__(self, fix: Fix) -> None:
        self.fix = fix
        self.accepted: bool | None = None
        self.failure: StorageUnavailable | None = None


class LocationSource(StoredSource):
    """The user's last fix, which survives restarts and reaches every replica through the store."""

    id = LOCATION_ID
    refresh_every_s = 0
    answers_at_once = True

    def __init__(self, user: UserId, services: Services) -> None:
        self._user = user
        self._services = services
        self._fix: Fix | None = None
        # Made with the first report: most users' phones are silent, and a lock is 800 bytes.
        self._turn: Lock | None = None
        self._waiting: list[_Report] = []

    @property
    def fix(self) -> Fix | None:
        """The last fix, as it was read from the store."""
        return self._fix

    def restore(self, rows: UserRows) -> None:
        row = rows.states.get(LOCATION_ID)
        fix = None if row is None else Fix.from_wire(row.state)
        if fix == self._fix:
            return
        self._fix = fix
        if self.attached:
            self.handle.push_context(self._context())

    async def fetch_context(self, ctx: Context) -> Sequence[ContextEntry]:
        return self._context()

    def actions(self) -> Sequence[ActionSpec]:
        return _ACTIONS

    async def execute_action(self, action_id: str, params: BaseModel | None) -> JsonValue:
        if not isinstance(params, UpdateLocation):
            raise SourceFailure(f"{self.id} has no action {action_id}")
        return {"accepted": await self.report(self._checked(params))}

    async def report(self, fix: Fix) -> bool:
        """Stores a fix, unless a newer one is known: whether it was taken. Of two of the same time the later
        arrival wins.

        Fixes that come while one is being written are written together, in one transaction, each judged as if
        it had come alone. Returns after a commit that contains this fix or a newer one. Raises
        StorageUnavailable. Cancelled, it may or may not have been stored; the others are not affected.
        """
        report = _Report(fix)
        self._waiting.append(report)
        self._turn = self._turn or Lock()
        try:
            async with self._turn:
                if report.accepted is None and report.failure is None:
                    await self._write_waiting()
        finally:
            # Still there: it was cancelled in the queue, before anybody took it along.
            if report in self._waiting:
                self._waiting.remove(report)
        if report.failure is not None:
            # Each its own: an exception raised in many places gathers all their traces.
            raise StorageUnavailable(report.failure.outcome, report.failure.reason) from report.failure
        return report.accepted is True

    def _context(self) -> tuple[ContextEntry, ...]:
        return () if self._fix is None else (ContextEntry.make(LOCATION_KEY, self._fix.wire()),)

    def _checked(self, params: UpdateLocation) -> Fix:
        now = self._services.clock.now()
        if params.timestamp is not None and params.timestamp > now + _AHEAD_MAX:
            raise SourceFailure("the time of the fix is in the future", code="config")
        return Fix(params.lat, params.lng, params.accuracy, params.timestamp or whole_ms(now))

    async def _write_waiting(self) -> None:
        """One transaction for all that wait, in the name of the first."""
        batch, self._waiting = self._waiting, []

        async def put(tx: WriteTx) -> list[bool]:
            row = await source_state.get(tx, self._user, LOCATION_ID)
            held = None if row is None else Fix.from_wire(row.state)
            newest, accepted = _judged(held, [report.fix for report in batch])
            if newest is held or newest is None:
                raise Unchanged(accepted)
            await source_state.put_state(tx, self._user, LOCATION_ID, newest.wire())
            return accepted

        try:
            accepted = await self._services.writes.write(self._user, put)
        except Unchanged:
            accepted = [False] * len(batch)
        except StorageUnavailable as failure:
            for report in batch:
                report.failure = failure
            return
        except BaseException:
            # Cancelled, or broken: this call ends, and the next in line writes for those who are left.
            self._waiting = batch + self._waiting
            raise
        for report, taken in zip(batch, accepted, strict=True):
            report.accepted = taken


_ACTIONS: Final = (
    ActionSpec("update-location", "Report a location", "Tells where the user is now.", UpdateLocation),
)


def _judged(held: Fix | None, fixes: Sequence[Fix]) -> tuple[Fix | None, list[bool]]:
    """What is known after these fixes arrived in this order, and which of them were taken."""
    newest, accepted = held, list[bool]()
    for fix in fixes:
        taken = newest is None or fix.timestamp >= newest.timestamp
        newest = fix if taken else newest
        accepted.append(taken)
    return newest, accepted


class LocationProvider(FeedProvider[NoConfig]):
    """Makes `freya.location`."""

    source_id = LOCATION_ID
    name = "Location"
    config_schema = NoConfig
    builds_at_once = True
    default_row = True

    async def source_for_user(
        self, user: UserId, config: NoConfig, credentials: BaseModel | None, services: Services
    ) -> LocationSource:
        return LocationSource(user, services)
