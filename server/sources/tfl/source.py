"""One user's view of London's lines: those they care about, the nearest first."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, SecretStr

from protocol.feed import FeedItem
from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from server.engine.context import Context
from server.engine.source import ActionSpec, ConfigProblem, FeedSource, SourceFailure
from server.sources.item_types import TRANSIT_STATUS
from server.sources.location import LOCATION_ID, last_fix
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services, SourceOptions
from server.sources.tfl.lines import LINES, LineId, distance_km, nearest, signals_of, worst
from server.sources.tfl.network import STATUS_FRESH_S, Disruption, TflNetwork
from storage import source_configs
from storage.database import WriteTx
from storage.source_configs import KEEP

__all__ = ["SetLines", "TflConfig", "TflProvider", "TflSettings", "TflSource"]

_ID: Final = SourceId("freya.tfl")

# A little more than a status holds, so that somebody who asks alone gets a new one each time.
_REFRESH_S: Final = 1.12 * STATUS_FRESH_S


def _once(lines: tuple[LineId, ...]) -> tuple[LineId, ...]:
    return tuple(dict.fromkeys(lines))


_Lines = Annotated[tuple[LineId, ...], Field(max_length=len(LINES)), AfterValidator(_once)]


class TflConfig(ConfigModel):
    """Which lines matter."""

    lines: _Lines = Field(
        default=(),
        title="Lines",
        description="The lines whose disruptions are shown; none chosen means all of them.",
        json_schema_extra={"uniqueItems": True},
    )


class TflSettings(ConfigModel):
    """An operator's key, which raises the rate limit."""

    api_key: Annotated[SecretStr, Field(min_length=1, max_length=200)] = Field(
        title="Key", description="The application key of Transport for London's API."
    )


class SetLines(RootModel[_Lines]):
    """Input of `set-lines-of-interest`: the lines; an empty list means all."""

    model_config = ConfigDict(frozen=True, title="Lines of interest", json_schema_extra={"uniqueItems": True})


class TflSource(FeedSource):
    """One item while anything is wrong, none else. How far it is to each line's nearest station is told where
    the user's place is known."""

    id = _ID
    uses = (LOCATION_ID,)
    refresh_every_s = _REFRESH_S
    timeout_s = 25.0

    def __init__(self, user: UserId, config: TflConfig, network: TflNetwork, services: Services) -> None:
        self._user = user
        self._lines = frozenset(config.lines or LINES)
        self._network = network
        self._services = services

    def input_key(self, ctx: Context) -> Hashable:
        return _place(ctx)

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        disruptions = [
            each for each in await self._network.disruptions(self._services) if each.line in self._lines
        ]
        if not disruptions:
            return ()
        distances = await self._distances(disruptions, _place(ctx))
        disruptions.sort(key=lambda each: _nearest_first(each, distances))
        data: dict[str, JsonValue] = {"alerts": [_alert(each, distances) for each in disruptions]}
        signals = signals_of(worst(each.severity for each in disruptions))
        return (
            self.item(
                "status",
                type=TRANSIT_STATUS,
                timestamp=_since(disruptions, ctx.time),
                data=data,
                signals=signals,
            ),
        )

    def actions(self) -> Sequence[ActionSpec]:
        return _ACTIONS

    async def execute_action(self, action_id: str, params: BaseModel | None) -> JsonValue:
        if not isinstance(params, SetLines):
            raise SourceFailure(f"{self.id} has no action {action_id}")
        lines = list(params.root)

        async def put(tx: WriteTx) -> None:
            row = await source_configs.get(tx, self._user, _ID)
            if row is None:
                raise ConfigProblem("the source is not set up any more")
            config: dict[str, JsonValue] = {**row.config, "lines": lines}
            if not lines:
                del config["lines"]  # defaults are not stored
            await source_configs.put(tx, self._user, _ID, row.enabled, config, KEEP)

        await self._services.writes.write(self._user, put)
        return {"lines": lines}

    async def _distances(
        self, disruptions: Sequence[Disruption], place: tuple[float, float] | None
    ) -> dict[LineId, float]:
        if place is None:
            return {}
        stations = await self._network.stations(self._services, [each.line for each in disruptions])
        return {
            line: round(distance_km(place, nearest(place, places)), 1)
            for line, places in stations.items()
            if places
        }


def _place(ctx: Context) -> tuple[float, float] | None:
    """Where the user is, to about a hundred metres: nobody's steps from one room to the next change it."""
    fix = last_fix(ctx)
    return None if fix is None else (round(fix.lat, 3), round(fix.lng, 3))


def _since(disruptions: Sequence[Disruption], now: datetime) -> datetime:
    """Of all that is wrong, what began last; where nobody tells, this day. The same on every replica."""
    told = [each.since for each in disruptions if each.since is not None and each.since <= now]
    return max(told, default=now.replace(hour=0, minute=0, second=0, microsecond=0))


def _nearest_first(each: Disruption, distances: dict[LineId, float]) -> tuple[bool, float, int]:
    distance = distances.get(each.line)
    return distance is None, distance or 0.0, LINES.index(each.line)


def _alert(each: Disruption, distances: dict[LineId, float]) -> JsonValue:
    return {
        "line": each.line,
        "lineName": each.name,
        "severity": each.severity,
        "description": each.description,
        "closestStationDistance": distances.get(each.line),
    }


_ACTIONS: Final = (
    ActionSpec(
        "set-lines-of-interest",
        "Choose lines",
        "Sets the lines whose disruptions are shown; an empty list means all.",
        SetLines,
    ),
)


class TflProvider(FeedProvider[TflConfig, BaseModel, TflSettings]):
    """Makes `freya.tfl`."""

    source_id = _ID
    name = "London transport"
    config_schema = TflConfig
    builds_at_once = True
    settings_schema = TflSettings

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._api_key = options.tfl_api_key
        self._network = TflNetwork(options.tfl_url, self._api_key)

    async def source_for_user(
        self, user: UserId, config: TflConfig, credentials: BaseModel | None, services: Services
    ) -> TflSource:
        return TflSource(user, config, self._network, services)

    def configure(self, settings: TflSettings | None) -> None:
        key = self._options.tfl_api_key if settings is None else settings.api_key.get_secret_value()
        if key != self._api_key:
            self._api_key = key
            self._network = TflNetwork(self._options.tfl_url, key)
