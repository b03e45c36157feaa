"""Metric figures as the user wants them, rounded to what can be felt: a feed need not change for less."""

from __future__ import annotations

from server.sources.user import Units

__all__ = ["Scale"]


class Scale:
    """Converts; None stays None. Temperature C or F, wind km/h or mph, visibility km or mi, amounts mm or in,
    pressure hPa or inHg."""

    __slots__ = ("_imperial", "units")

    def __init__(self, units: Units) -> None:
        self.units = units
        self._imperial = units == "imperial"

    def temperature(self, celsius: float | None) -> float | None:
        """To a tenth of a degree."""
        if celsius is None:
            return None
        return round(celsius * 9 / 5 + 32 if self._imperial else celsius, 1)

    def speed(self, kmh: float | None) -> float | None:
        """To a tenth."""
        return self._scaled(kmh, 0.621371, 1, 1)

    def distance(self, km: float | None) -> float | None:
        """To a tenth."""
        return self._scaled(km, 0.621371, 1, 1)

    def amount(self, mm: float | None) -> float | None:
        """To a tenth of a millimetre, or a hundredth of an inch."""
        return self._scaled(mm, 0.0393701, 1, 2)

    def pressure(self, hpa: float | None) -> float | None:
        """To a whole hectopascal, or a hundredth of an inch of mercury."""
        return self._scaled(hpa, 0.02953, 0, 2)

    def _scaled(self, value: float | None, factor: float, digits: int, imperial_digits: int) -> float | None:
        if value is None:
            return None
        return round(value * factor, imperial_digits) if self._imperial else round(value, digits)
