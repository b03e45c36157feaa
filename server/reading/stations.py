"""A transit line's list of stops (Transport for London's StopPoints) to the places of its stations."""

from __future__ import annotations

from typing import Any, cast

import orjson

from server.reading.values import Unreadable

__all__ = ["read_places"]

_MOST = 1000


def read_places(body: bytes) -> tuple[tuple[float, float], ...]:
    """Latitude and longitude of each stop. Raises Unreadable."""
    try:
        stops: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unreadable from None
    if not isinstance(stops, list):
        raise Unreadable
    places = [place for stop in cast("list[Any]", stops) if (place := _place(stop)) is not None]
    return tuple(places[:_MOST])


def _place(stop: Any) -> tuple[float, float] | None:
    if not isinstance(stop, dict):
        return None
    fields = cast("dict[str, object]", stop)
    lat, lng = fields.get("lat"), fields.get("lon")
    if isinstance(lat, int | float) and isinstance(lng, int | float) and abs(lat) <= 90 and abs(lng) <= 180:
        return float(lat), float(lng)
    return None
