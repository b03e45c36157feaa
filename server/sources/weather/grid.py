"""Squares of about five kilometres: the weather is asked for once a square, whoever stands where in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["Square", "square_of"]

_KM_PER_DEGREE: Final = 111.2
_SIDE_KM: Final = 5.0
_SIDE_DEGREES: Final = _SIDE_KM / _KM_PER_DEGREE
_ROWS: Final = math.ceil(180 / _SIDE_DEGREES)


@dataclass(frozen=True, slots=True)
class Square:
    """A square, by its row from the south and its column from the date line."""

    row: int
    column: int

    @property
    def centre(self) -> tuple[float, float]:
        """Latitude and longitude of its middle, to a hundred metres: where exactly anybody is, no upstream
        learns."""
        lat = min(-90 + (self.row + 0.5) * _SIDE_DEGREES, 90.0)
        lng = -180 + (self.column + 0.5) * 360 / _columns(self.row)
        return round(lat, 3), round(lng, 3)


def square_of(lat: float, lng: float) -> Square:
    """The square of a place. Rows are equally high; each has as many columns as fit around there."""
    row = min(int((lat + 90) / _SIDE_DEGREES), _ROWS - 1)
    columns = _columns(row)
    # 180 degrees east is 180 degrees west.
    return Square(row, int((lng + 180) / 360 * columns) % columns)


def _columns(row: int) -> int:
    middle = -90 + (row + 0.5) * _SIDE_DEGREES
    around_km = 360 * _KM_PER_DEGREE * math.cos(math.radians(min(middle, 90.0)))
    return max(round(around_km / _SIDE_KM), 1)
