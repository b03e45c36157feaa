"""What a reminder is, and its forms in a row and on the wire. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, cast, get_args

from protocol.frozen import JsonValue
from protocol.times import from_wire, to_wire
from server.sources.reminders.recurrence import Frequency, Recurrence, Series
from server.sources.zones import zone

__all__ = [
    "NO_OVERRIDE",
    "NO_OVERRIDES",
    "Override",
    "Priority",
    "Reminder",
    "StoredForm",
    "from_stored",
    "occurrence_wire",
    "recurrence_wire",
    "reminder_wire",
    "to_stored",
]

Priority: TypeAlias = Literal["low", "normal", "high"]
_JsonObject: TypeAlias = "dict[str, JsonValue]"
StoredForm: TypeAlias = "tuple[_JsonObject, dict[str, _JsonObject]]"
"""The body of a row, and its overrides by original due."""

_PRIORITIES: Final[Mapping[str, Priority]] = {word: word for word in get_args(Priority)}
_FREQUENCIES: Final[Mapping[str, Frequency]] = {word: word for word in get_args(Frequency)}


@dataclass(frozen=True, slots=True)
class Override:
    """How one occurrence differs from its series. None: not at all."""

    due_at: datetime | None = None
    title: str | None = None
    notes: str | None = None
    """The empty string: this one has no notes, whatever the series has."""
    priority: Priority | None = None
    completed_at: datetime | None = None
    deleted: bool = False


NO_OVERRIDE: Final = Override()
NO_OVERRIDES: Final[Mapping[datetime, Override]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reminder:
    """One reminder: due once, or a series."""

    id: str
    title: str
    notes: str | None
    due_at: datetime
    """In UTC; of a series, when its first occurrence is."""
    time_zone: str
    priority: Priority = "normal"
    series: Series | None = None
    completed_at: datetime | None = None
    """Of one that is due once. Each occurrence of a series has its own, in its override."""
    overrides: Mapping[datetime, Override] = field(default_factory=lambda: NO_OVERRIDES)
    """By original due; only of a series."""

    def override(self, due: datetime) -> Override:
        """How the occurrence with that original due differs."""
        return self.overrides.get(due, NO_OVERRIDE)

    def with_override(self, due: datetime, override: Override) -> Reminder:
        """With that occurrence differing so."""
        others = {when: other for when, other in self.overrides.items() if when != due}
        if override != NO_OVERRIDE:
            others[due] = override
        return replace(self, overrides=others)


def reminder_wire(reminder: Reminder) -> _JsonObject:
    """As actions answer it."""
    return {"id": reminder.id, **_body(reminder)}


def occurrence_wire(reminder: Reminder, original_due: datetime) -> _JsonObject:
    """One occurrence with its override applied: an item's data, and what actions answer."""
    own = reminder.override(original_due)
    completed_at = own.completed_at if reminder.series is not None else reminder.completed_at
    original = to_wire(original_due)
    return {
        "reminderId": reminder.id,
        "occurrenceId": f"{reminder.id}/{original}",
        "title": own.title or reminder.title,
        "notes": (reminder.notes if own.notes is None else own.notes) or None,
        "originalDueAt": original,
        "dueAt": original if own.due_at is None else to_wire(own.due_at),
        "timeZone": reminder.time_zone,
        "recurrence": recurrence_wire(reminder.series),
        "priority": own.priority or reminder.priority,
        "completedAt": None if completed_at is None else to_wire(completed_at),
    }


def recurrence_wire(series: Series | None) -> JsonValue:
    """The wire's recurrence, or None for what is due once."""
    if series is None:
        return None
    rule = series.rule
    wire: _JsonObject = {"frequency": rule.frequency, "interval": rule.interval}
    if rule.weekdays is not None:
        wire["weekdays"] = list(rule.weekdays)
    if rule.count is not None:
        wire["count"] = rule.count
    if rule.until is not None:
        wire["until"] = to_wire(rule.until)
    return wire


def to_stored(reminder: Reminder) -> StoredForm:
    """What a row keeps of it."""
    body = _body(reminder)
    if reminder.series is not None:
        body["anchor"] = {
            "wall": reminder.series.anchor.isoformat(),
            "fold": reminder.series.fold,
            "monthDay": reminder.series.month_day,
        }
    return body, {to_wire(due): _override_wire(own) for due, own in reminder.overrides.items()}


def from_stored(
    reminder_id: str, body: Mapping[str, JsonValue], overrides: Mapping[str, JsonValue]
) -> Reminder:
    """The other way round. Raises ValueError for what `to_stored` cannot have written."""
    time_zone, due_at = _text(body, "timeZone"), from_wire(_text(body, "dueAt"))
    notes = body.get("notes")
    return Reminder(
        id=reminder_id,
        title=_text(body, "title"),
        notes=notes if isinstance(notes, str) else None,
        due_at=due_at,
        time_zone=time_zone,
        priority=_priority(body.get("priority")) or "normal",
        series=_series(body, due_at, time_zone),
        completed_at=_moment(body.get("completedAt")),
        overrides={from_wire(due): _override(_object(own)) for due, own in overrides.items()}
        if overrides
        else NO_OVERRIDES,
    )


def _body(reminder: Reminder) -> _JsonObject:
    return {
        "title": reminder.title,
        "notes": reminder.notes,
        "dueAt": to_wire(reminder.due_at),
        "timeZone": reminder.time_zone,
        "recurrence": recurrence_wire(reminder.series),
        "priority": reminder.priority,
        "completedAt": None if reminder.completed_at is None else to_wire(reminder.completed_at),
    }


def _override_wire(own: Override) -> _JsonObject:
    wire: _JsonObject = {}
    if own.due_at is not None:
        wire["dueAt"] = to_wire(own.due_at)
    if own.title is not None:
        wire["title"] = own.title
    if own.notes is not None:
        wire["notes"] = own.notes
    if own.priority is not None:
        wire["priority"] = own.priority
    if own.completed_at is not None:
        wire["completedAt"] = to_wire(own.completed_at)
    if own.deleted:
        wire["deleted"] = True
    return wire


def _override(wire: Mapping[str, JsonValue]) -> Override:
    title, notes = wire.get("title"), wire.get("notes")
    return Override(
        due_at=_moment(wire.get("dueAt")),
        title=title if isinstance(title, str) else None,
        notes=notes if isinstance(notes, str) else None,
        priority=_priority(wire.get("priority")),
        completed_at=_moment(wire.get("completedAt")),
        deleted=wire.get("deleted") is True,
    )


def _series(body: Mapping[str, JsonValue], due_at: datetime, time_zone: str) -> Series | None:
    if body.get("recurrence") is None:
        return None
    rule = _rule(_object(body["recurrence"]))
    anchor = body.get("anchor")
    if anchor is None:
        return Series.starting(due_at, zone(time_zone), rule)
    kept = _object(anchor)
    return Series(
        anchor=datetime.fromisoformat(_text(kept, "wall")),
        zone=zone(time_zone),
        rule=rule,
        month_day=_whole(kept, "monthDay"),
        fold=_whole(kept, "fold"),
    )


def _rule(wire: Mapping[str, JsonValue]) -> Recurrence:
    frequency = _FREQUENCIES.get(_text(wire, "frequency"))
    if frequency is None:
        raise ValueError("frequency: not one that is known")
    weekdays = wire.get("weekdays")
    return Recurrence(
        frequency=frequency,
        interval=_whole(wire, "interval"),
        weekdays=tuple(cast("list[int]", weekdays)) if isinstance(weekdays, list) else None,
        count=_whole(wire, "count") if "count" in wire else None,
        until=_moment(wire.get("until")),
    )


def _priority(value: JsonValue) -> Priority | None:
    return _PRIORITIES.get(value) if isinstance(value, str) else None


def _moment(value: JsonValue) -> datetime | None:
    return from_wire(value) if isinstance(value, str) else None


def _text(obj: Mapping[str, JsonValue], key: str) -> str:
    value = obj.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key}: not a string")
    return value


def _whole(obj: Mapping[str, JsonValue], key: str) -> int:
    value = obj.get(key)
    if not isinstance(value, int):
        raise ValueError(f"{key}: not a whole number")
    return value


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise ValueError("not an object")
    return value
