"""Transport for London's API, asked once for everybody. https://api.tfl.gov.uk"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import anyio
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from server.engine.source import BadAnswer, SourceFailure, Unauthorized
from server.reading.jobs import read_stations
from server.reading.values import Unreadable
from server.sources.services import Services
from server.sources.tfl.lines import LINES, LineId, Severity, line_of, severity_of, worst
from server.upstream.shared import Shared

__all__ = ["STATUS_FRESH_S", "Disruption", "TflNetwork"]

_WHO: Final = "Transport for London"

STATUS_FRESH_S: Final = 60.0
_STATIONS_FRESH_S: Final = 24 * 3600.0
# How far it is to a station is worth a wait once a day, and no failure.
_STATIONS_PATIENCE_S: Final = 10.0
_STATIONS_BYTES: Final = 8 * 1024 * 1024
# The list of a long line has megabytes, which take longer to read than the event loop may wait.
_READ_HERE_BYTES: Final = 64 * 1024
_TEXT_MAX: Final = 1000


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", allow_inf_nan=False)


class _Validity(_Model):
    from_date: AwareDatetime | None = None


class _LineStatus(_Model):
    status_severity: int
    status_severity_description: str = ""
    reason: str | None = None
    validity_periods: Annotated[Sequence[_Validity], Field(max_length=100)] = ()


class _Line(_Model):
    id: str
    name: str
    line_statuses: Annotated[Sequence[_LineStatus], Field(max_length=100)] = ()


_SHAPE: Final = TypeAdapter(Annotated[list[_Line], Field(max_length=1000)])


@dataclass(frozen=True, slots=True)
class Disruption:
    """What is wrong on one line."""

    line: LineId
    name: str
    severity: Severity
    description: str
    since: datetime | None
    """Since when, as far as is told."""


_Stations = tuple[tuple[float, float], ...]


class TflNetwork:
    """The state of the network: one for all users of a provider."""

    def __init__(self, base: str, api_key: str | None) -> None:
        self._base = base.rstrip("/")
        self._params: Mapping[str, str] = {} if api_key is None else {"app_key": api_key}
        self._status: Shared[None, tuple[Disruption, ...]] = Shared(fresh_s=STATUS_FRESH_S, failure_s=20.0)
        self._stations: Shared[LineId, _Stations] = Shared(fresh_s=_STATIONS_FRESH_S, failure_s=300.0)

    async def disruptions(self, services: Services) -> tuple[Disruption, ...]:
        """What is wrong now, on all lines; at most a minute old. Raises SourceFailure."""

        async def load(_: object) -> tuple[Disruption, ...]:
            url = f"{self._base}/Line/{','.join(LINES)}/Status"
            try:
                lines = await services.outside.client.get_json(
                    _WHO, url, _SHAPE, params=self._params, max_bytes=1024 * 1024
                )
            except Unauthorized:
                # Not the user's credentials: nothing that they could connect again.
                raise SourceFailure(f"{_WHO} refuses the server's key", code="config") from None
            try:
                return tuple(found for line in lines for found in _disruption(line))
            except OverflowError:  # a time at the edge of the calendar
                raise BadAnswer(f"{_WHO} sent an answer that makes no sense") from None

        return await self._status.get(services.clock, None, load)

    async def stations(self, services: Services, lines: Sequence[LineId]) -> dict[LineId, _Stations]:
        """Where the stations of these lines are; without those lines of which it is not to be had soon."""
        found: dict[LineId, _Stations] = {}
        missing: list[LineId] = []
        for line in lines:
            places = self._stations.peek(services.clock, line)
            if places is None:
                missing.append(line)
            else:
                found[line] = places
        if missing:
            await self._find_stations(services, missing, found)
        return found

    async def _find_stations(
        self, services: Services, lines: Sequence[LineId], found: dict[LineId, _Stations]
    ) -> None:
        async def find(line: LineId) -> None:
            try:
                found[line] = await self._stations_of(services, line)
            except SourceFailure:
                return  # a distance is missing; that is all

        with anyio.move_on_after(_STATIONS_PATIENCE_S):
            async with anyio.create_task_group() as group:
                for line in lines:
                    group.start_soon(find, line)

    async def _stations_of(self, services: Services, line: LineId) -> _Stations:
        async def load(_: object) -> _Stations:
            url = f"{self._base}/Line/{line}/StopPoints"
            body = await services.outside.client.get(
                _WHO, url, params=self._params, max_bytes=_STATIONS_BYTES
            )
            try:
                if len(body) <= _READ_HERE_BYTES:
                    return read_stations(body)
                return await services.outside.workers.run(_WHO, read_stations, body)
            except Unreadable:
                raise BadAnswer(f"{_WHO} sent an answer that makes no sense") from None

        return await self._stations.get(services.clock, line, load)


def _disruption(line: _Line) -> list[Disruption]:
    """One entry, of the worst of a line's states; none where all is well, or nobody knows the line."""
    known = line_of(line.id)
    bad: dict[Severity, _LineStatus] = {}
    for status in line.line_statuses:
        severity = severity_of(status.status_severity)
        if severity is not None:
            bad.setdefault(severity, status)
    if known is None or not bad:
        return []
    severity = worst(bad)
    status = bad[severity]
    text = (status.reason or status.status_severity_description).replace("\0", "").strip()
    since = [each.from_date.astimezone(UTC) for each in status.validity_periods if each.from_date is not None]
    return [Disruption(known, _clean(line.name), severity, text[:_TEXT_MAX], min(since, default=None))]


def _clean(text: str) -> str:
    return text.replace("\0", "")[:200]
