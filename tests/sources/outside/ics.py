"""iCalendar texts for tests."""

from __future__ import annotations

__all__ = ["calendar", "event", "london"]


def event(uid: str, *lines: str) -> str:
    """One VEVENT."""
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *lines, "END:VEVENT"])


def calendar(*events: str, name: str = "") -> str:
    """A whole calendar of them."""
    head = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//test//EN",
        *([f"X-WR-CALNAME:{name}"] if name else []),
    ]
    return "\r\n".join([*head, *events, "END:VCALENDAR", ""])


def london(begin: str, end: str, zone: str = "Europe/London") -> tuple[str, str]:
    """Its begin and end, on the clocks of a zone."""
    return f"DTSTART;TZID={zone}:{begin}", f"DTEND;TZID={zone}:{end}"
