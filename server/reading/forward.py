"""Long series begun anew, shortly before the time that matters.

The libraries count a repetition from its first day on, however long ago that is: a daily event of ten years
costs tens of milliseconds, and people have hundreds. A daily or weekly rule without a count says the same
from a later beginning, a whole number of its steps on.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, Final, cast

__all__ = ["forward"]

_STEP_DAYS: Final = {"DAILY": 1, "WEEKLY": 7}
# What does not depend on how many repetitions there were before.
_PLAIN: Final = frozenset({"FREQ", "INTERVAL", "UNTIL", "BYDAY", "BYMONTH", "BYMONTHDAY", "WKST"})
_MARGIN: Final = timedelta(days=10)


def forward(component: Any, begin: datetime) -> None:
    """Moves the first day of a plain daily or weekly series to shortly before `begin`, by whole steps.

    The component is the library's event; it is changed in place. Raises whatever its properties do.
    """
    rule = _rule(component)
    if rule is None or not rule.keys() <= _PLAIN:
        return
    frequency, interval = str(_first(rule, "FREQ")), int(_first(rule, "INTERVAL") or 1)
    step = _STEP_DAYS.get(frequency.upper(), 0) * interval
    if step < 1:
        return
    start: date = component["DTSTART"].dt
    lasts = _length(component, start)
    # A first day that its own rule does not name is a repetition all the same; it must stay out of sight.
    target = begin.date() - _MARGIN - lasts - timedelta(days=2 * step)
    first = start.date() if isinstance(start, datetime) else start
    steps = (target - first).days // step
    if steps > 0:
        _move(component, timedelta(days=steps * step))


def _rule(component: Any) -> dict[str, Any] | None:
    rule: object = component.get("RRULE")
    return cast("dict[str, Any]", rule) if isinstance(rule, dict) else None


def _first(rule: dict[str, Any], name: str) -> Any:
    value: Any = rule.get(name)
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    return values[0] if values else None


def _length(component: Any, start: date) -> timedelta:
    if "DTEND" in component:
        end: date = component["DTEND"].dt
        return max(_day(end) - _day(start), timedelta()) + timedelta(days=1)
    if "DURATION" in component:
        lasts: timedelta = component["DURATION"].dt
        return lasts + timedelta(days=1)
    return timedelta(days=1)


def _day(when: date) -> date:
    return when.date() if isinstance(when, datetime) else when


def _move(component: Any, by: timedelta) -> None:
    # On the wall clock of the event's zone, where the rule counts.
    for name in ("DTSTART", "DTEND"):
        if name in component:
            component[name].dt = component[name].dt + by
