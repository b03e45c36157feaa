"""What a user can do with reminders: the params of each action, as its form and its JSON Schema."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from server.engine.source import ActionSpec
from server.sources.provider import ConfigModel
from server.sources.reminders.edits import Scope
from server.sources.reminders.model import Priority
from server.sources.reminders.recurrence import EARLIEST, Frequency, Recurrence
from server.sources.reminders.retiming import KEEP, Patch
from server.sources.zones import TimeZoneName, whole_ms

__all__ = [
    "ACTIONS",
    "CompleteReminder",
    "CreateReminder",
    "DeleteReminder",
    "RecurrenceParams",
    "ReminderPatch",
    "UncompleteReminder",
    "UpdateReminder",
]

# A thousand years of daily reminders have fewer; and a rule that is asked for a far number must not overflow.
_COUNT_MAX: Final = 100_000
_INTERVAL_MAX: Final = 1000

_Instant = Annotated[AwareDatetime, AfterValidator(whole_ms)]
"""As the wire carries it. Whatever else a client kept (microseconds) would never match again."""

_Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
_Notes = Annotated[str, StringConstraints(max_length=10_000)]
_ReminderId = Annotated[str, StringConstraints(min_length=1, max_length=64)]

_DUE: Final = "ISO 8601. Without an offset it is wall-clock time in the reminder's zone."


def _no_time() -> datetime:
    return EARLIEST


def _no_priority() -> Priority:
    return "normal"


class RecurrenceParams(ConfigModel):
    """How a reminder comes again."""

    frequency: Frequency = Field(title="Frequency")
    interval: int = Field(
        default=1, ge=1, le=_INTERVAL_MAX, title="Every", description="Every how many of them."
    )
    weekdays: Annotated[list[Annotated[int, Field(ge=0, le=6)]], Field(min_length=1, max_length=7)] | None = (
        Field(
            default=None,
            title="Weekdays",
            description="Of a weekly reminder: 0 is Sunday, 6 Saturday. Else the weekday of its due.",
        )
    )
    count: Annotated[int, Field(ge=1, le=_COUNT_MAX)] | None = Field(
        default=None, title="Times", description="How often in all."
    )
    until: _Instant | None = Field(default=None, title="Until", description="The last time it may be due.")

    @model_validator(mode="after")
    def _only_a_week_has_weekdays(self) -> RecurrenceParams:
        if self.weekdays is not None and self.frequency != "weekly":
            raise ValueError("weekdays are for weekly reminders")
        return self

    def rule(self) -> Recurrence:
        """The same as the maths knows it; a weekday given twice counts once."""
        weekdays = None if self.weekdays is None else tuple(sorted(set(self.weekdays)))
        return Recurrence(self.frequency, self.interval, weekdays, self.count, self.until)


class CreateReminder(ConfigModel):
    """Params of `create-reminder`."""

    title: _Title = Field(title="Title")
    notes: _Notes | None = Field(default=None, title="Notes")
    due_at: datetime = Field(title="Due", description=_DUE)
    time_zone: TimeZoneName | None = Field(
        default=None, title="Time zone", description="Whose clocks it goes by; yours, if not given."
    )
    recurrence: RecurrenceParams | None = Field(default=None, title="Repeat")
    priority: Priority = Field(default="normal", title="Priority")


class ReminderPatch(ConfigModel):
    """What to change. What is not named stays."""

    # A factory makes a field optional without its stand-in showing in the schema; `patch` never reads one.
    title: _Title = Field(default_factory=str, title="Title")
    notes: _Notes | None = Field(default=None, title="Notes", description="Null takes them away.")
    due_at: datetime = Field(default_factory=_no_time, title="Due", description=_DUE)
    time_zone: TimeZoneName = Field(default_factory=str, title="Time zone")
    recurrence: RecurrenceParams | None = Field(
        default=None, title="Repeat", description="Null makes it a reminder that is due once."
    )
    priority: Priority = Field(default_factory=_no_priority, title="Priority")

    @model_validator(mode="after")
    def _something_is_named(self) -> ReminderPatch:
        if not self.model_fields_set:
            raise ValueError("names nothing to change")
        return self

    def patch(self) -> Patch:
        """What was named."""
        named = self.model_fields_set
        rule = None if self.recurrence is None else self.recurrence.rule()
        return Patch(
            title=self.title if "title" in named else KEEP,
            notes=self.notes if "notes" in named else KEEP,
            due_at=self.due_at if "due_at" in named else KEEP,
            time_zone=self.time_zone if "time_zone" in named else KEEP,
            recurrence=rule if "recurrence" in named else KEEP,
            priority=self.priority if "priority" in named else KEEP,
        )


class _OfReminder(ConfigModel):
    reminder_id: _ReminderId = Field(title="Reminder")
    occurrence_due_at: _Instant | None = Field(
        default=None,
        title="Occurrence",
        description="When the occurrence was first due (its originalDueAt). Needed for one of a series.",
    )


class _Scoped(_OfReminder):
    scope: Scope = Field(title="Which", description="How much of a series is meant.")

    @model_validator(mode="after")
    def _a_scope_has_a_place(self) -> _Scoped:
        if self.scope != "entire-series" and self.occurrence_due_at is None:
            raise ValueError("occurrenceDueAt is needed unless the scope is entire-series")
        return self


class UpdateReminder(_Scoped):
    """Params of `update-reminder`."""

    patch: ReminderPatch = Field(title="Changes")


class DeleteReminder(_Scoped):
    """Params of `delete-reminder`."""


class CompleteReminder(_OfReminder):
    """Params of `complete-reminder`."""

    completed_at: _Instant | None = Field(default=None, title="Done", description="Now, if not given.")


class UncompleteReminder(_OfReminder):
    """Params of `uncomplete-reminder`."""


ACTIONS: Final = (
    ActionSpec("create-reminder", "New reminder", "Once, or over and over.", CreateReminder),
    ActionSpec("update-reminder", "Change", "One occurrence, it and the later ones, or all.", UpdateReminder),
    ActionSpec("delete-reminder", "Delete", "One occurrence, it and the later ones, or all.", DeleteReminder),
    ActionSpec("complete-reminder", "Done", "This occurrence is done.", CompleteReminder),
    ActionSpec(
        "uncomplete-reminder", "Not done", "This occurrence is not done after all.", UncompleteReminder
    ),
)
