from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from anyio import create_task_group
from anyio.lowlevel import checkpoint

from protocol.errors import ActionFailed, InvalidParams, InvalidSourceConfig, LimitReached
from protocol.frozen import JsonValue
from protocol.times import from_wire
from server.engine.context import Context
from server.engine.source import Answer
from server.sources.item_types import REMINDER
from server.sources.reminders import RemindersConfig, RemindersSource
from server.sources.reminders.model import Override, Reminder, to_stored
from server.sources.reminders.recurrence import Recurrence
from storage import reminders as stored
from storage.database import Database
from storage.loading import UserRows
from storage.reminders import ReminderRow
from tests.sources.conftest import ALICE, Feed, Home, House
from tests.sources.reminders.reminders import once, repeating
from tests.sources.reminders.series import utc

SOURCE = "freya.reminders"
NINE = utc("2026-03-02T09:00")


def row(reminder: Reminder, name: str | None = None) -> ReminderRow:
    body, overrides = to_stored(reminder)
    return ReminderRow(name or reminder.id, body, overrides, NINE, NINE)


def rows(*reminders: ReminderRow) -> UserRows:
    return UserRows(ALICE, reminders=list(reminders))


def a_source(feed: Feed, **config: JsonValue) -> RemindersSource:
    return RemindersSource(ALICE, RemindersConfig.model_validate(config), feed.services)


def urgencies(feed: Feed) -> list[float | None]:
    return [item.signals.urgency if item.signals else None for item in feed.of_type(REMINDER)]


def dues(items: list[Mapping[str, JsonValue]]) -> list[str]:
    return [str(data["dueAt"]) for data in items]


async def create(home: Home, due: str = "2026-03-02T12:00:00Z", /, **more: JsonValue) -> dict[str, Any]:
    answer = await home.act(SOURCE, "create-reminder", **{"title": "Call", "dueAt": due, **more})
    assert isinstance(answer, dict)
    return dict(answer)


# What is shown, as time goes by


async def test_a_reminder_turns_imminent_without_anybody_being_asked(feed: Feed) -> None:
    source = a_source(feed)
    source.restore(rows(row(once("2026-03-03T10:00"))))
    await feed.add(source)
    seen: list[tuple[float | None, ...]] = []
    for moment in ("02T10:00", "02T10:01", "03T08:59", "03T09:00", "03T09:45", "03T10:00", "09T10:00"):
        await feed.to(utc(f"2026-03-{moment}"))
        seen.append(tuple(urgencies(feed)))
    assert seen == [(0.5,), (0.5,), (0.5,), (0.8,), (0.95,), (1.0,), (1.0,)]
    assert feed.engine.statistics().runs == 1


async def test_a_reminder_appears_when_it_comes_near(feed: Feed) -> None:
    source = a_source(feed, lookAheadMs=3_600_000)
    source.restore(rows(row(once("2026-03-02T12:00"))))
    await feed.add(source)
    await feed.to(utc("2026-03-02T10:59"))
    assert feed.items == ()
    await feed.to(utc("2026-03-02T11:00"))
    assert dues(feed.data(REMINDER)) == ["2026-03-02T12:00:00Z"]


async def test_a_series_goes_on_day_after_day(feed: Feed) -> None:
    source = a_source(feed, lookAheadMs=0, lookBackMs=0, missedPerReminder=1)
    source.restore(rows(row(repeating(Recurrence("daily"), "2026-03-01T12:00"))))
    await feed.add(source)
    seen: list[list[str]] = []
    for moment in ("02T09:01", "02T12:00", "03T11:59", "03T12:00"):
        await feed.to(utc(f"2026-03-{moment}"))
        seen.append(dues(feed.data(REMINDER)))
    assert seen == [
        ["2026-03-01T12:00:00Z"],
        ["2026-03-02T12:00:00Z"],
        ["2026-03-02T12:00:00Z"],
        ["2026-03-03T12:00:00Z"],
    ]


async def test_items_come_in_the_order_of_their_dues(feed: Feed) -> None:
    source = a_source(feed)
    due = ["2026-03-02T18:00", "2026-03-01T18:00", "2026-03-02T10:00"]
    source.restore(rows(*(row(once(moment), f"r{n}") for n, moment in enumerate(due))))
    await feed.add(source)
    assert dues(feed.data(REMINDER)) == [f"{moment}:00Z" for moment in sorted(due)]


async def test_an_item_says_all_there_is_to_say(feed: Feed) -> None:
    source = a_source(feed)
    reminder = repeating(Recurrence("daily"), own={0: Override(due_at=utc("2026-03-02T15:00"))})
    source.restore(rows(row(replace(reminder, notes="two cans"))))
    await feed.add(source)
    [item] = feed.of_type(REMINDER)
    assert item.id == "freya.reminders/reminder-r-2026-03-02T12:00:00Z"
    assert item.timestamp == utc("2026-03-02T15:00")
    assert item.data == {
        "reminderId": "r",
        "occurrenceId": "r/2026-03-02T12:00:00Z",
        "title": "Water the plants",
        "notes": "two cans",
        "originalDueAt": "2026-03-02T12:00:00Z",
        "dueAt": "2026-03-02T15:00:00Z",
        "timeZone": "UTC",
        "recurrence": {"frequency": "daily", "interval": 1},
        "priority": "normal",
        "completedAt": None,
    }


async def test_rows_that_were_read_again_and_are_the_same_report_nothing(feed: Feed) -> None:
    source = a_source(feed)
    source.restore(rows(row(once())))
    await feed.add(source)
    before, pushes = feed.items, feed.engine.statistics().pushes
    source.restore(rows(row(once())))
    assert (feed.items, feed.engine.statistics().pushes) == (before, pushes)
    source.restore(rows())
    assert feed.items == ()


async def test_what_did_not_change_is_the_same_item(feed: Feed) -> None:
    source = a_source(feed)
    source.restore(rows(row(once()), row(once("2026-03-02T13:00"), "s")))
    await feed.add(source)
    before = feed.items
    source.restore(rows(row(once()), row(once("2026-03-02T13:30"), "s")))
    assert feed.items[0] is before[0]
    assert feed.items[1] is not before[1]


async def test_a_row_that_cannot_be_read_costs_itself_alone(feed: Feed) -> None:
    source = a_source(feed)
    broken = replace(row(once(), "broken"), body={"title": "?"})
    source.restore(rows(broken, row(once())))
    await feed.add(source)
    assert [data["reminderId"] for data in feed.data(REMINDER)] == ["r"]


async def test_a_thousand_reminders_are_worked_out_in_turns_of_the_loop(feed: Feed) -> None:
    source = a_source(feed, lookAheadMs=31 * 86_400_000, missedPerReminder=1)
    many = [row(repeating(Recurrence("monthly"), "1990-01-05T12:00"), f"r{n}") for n in range(1000)]
    source.restore(rows(*many))
    answer, turns = Answer(), 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with create_task_group() as group:
        group.start_soon(take_turns)
        answer = await source.fetch_items(Context.of([], NINE))
        group.cancel_scope.cancel()
    assert turns >= 15
    assert len(answer.items) == 1000


async def test_many_rows_that_change_at_once_follow_within_moments(feed: Feed) -> None:
    source = a_source(feed)
    await feed.add(source)
    source.restore(rows(*(row(once(), f"r{n}") for n in range(120))))
    assert 0 < len(feed.items) < 120
    await feed.clock.advance(1)
    assert len(feed.items) == 120


async def test_the_feed_holds_no_more_than_it_can_carry(feed: Feed) -> None:
    source = a_source(feed, lookAheadMs=31 * 86_400_000)
    source.restore(rows(*(row(repeating(Recurrence("daily")), f"r{n}") for n in range(60))))
    await feed.add(source)
    assert len(feed.items) == 1000
    assert max(dues(feed.data(REMINDER))) < "2026-03-20"


# What can be done


async def test_a_reminder_is_created_shown_and_kept(house: House) -> None:
    async with house.home() as home:
        reminder = await create(home, title="  Call  ", notes="Mum", priority="high")
        assert {**reminder, "id": "?"} == {
            "id": "?",
            "title": "Call",
            "notes": "Mum",
            "dueAt": "2026-03-02T12:00:00Z",
            "timeZone": "UTC",
            "recurrence": None,
            "priority": "high",
            "completedAt": None,
        }
        assert [data["reminderId"] for data in home.data(REMINDER)] == [reminder["id"]]
    async with house.home() as again:
        assert [data["title"] for data in again.data(REMINDER)] == ["Call"]


async def test_a_new_reminder_goes_by_the_users_own_clock(home: Home) -> None:
    await home.put("freya.user", {"timeZone": "Europe/London"})
    assert (await create(home, "2026-07-01T09:00:00"))["dueAt"] == "2026-07-01T08:00:00Z"
    await home.put(SOURCE, {"defaultTimeZone": "Asia/Tokyo"})
    assert (await create(home, "2026-07-01T09:00:00"))["dueAt"] == "2026-07-01T00:00:00Z"
    assert (await create(home, timeZone="America/New_York"))["timeZone"] == "America/New_York"


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"title": "   "}, ("title",)),
        ({"title": "x" * 501}, ("title",)),
        ({"dueAt": "soon"}, ("dueAt",)),
        ({"timeZone": "Mars/Olympus"}, ("timeZone",)),
        ({"timeZone": "../../etc/passwd"}, ("timeZone",)),
        ({"priority": "urgent"}, ("priority",)),
        ({"recurrence": {"frequency": "hourly"}}, ("recurrence", "frequency")),
        ({"recurrence": {"frequency": "daily", "interval": 0}}, ("recurrence", "interval")),
        ({"recurrence": {"frequency": "daily", "interval": 1001}}, ("recurrence", "interval")),
        ({"recurrence": {"frequency": "daily", "count": 0}}, ("recurrence", "count")),
        ({"recurrence": {"frequency": "daily", "until": "2026-03-03T00:00:00"}}, ("recurrence", "until")),
        ({"recurrence": {"frequency": "weekly", "weekdays": [7]}}, ("recurrence", "weekdays", 0)),
        ({"recurrence": {"frequency": "weekly", "weekdays": []}}, ("recurrence", "weekdays")),
        ({"recurrence": {"frequency": "daily", "weekdays": [1]}}, ("recurrence",)),
        ({"repeat": "daily"}, ("repeat",)),
    ],
)
async def test_what_makes_no_reminder_is_refused_with_its_path(
    home: Home, wrong: dict[str, JsonValue], path: tuple[str | int, ...]
) -> None:
    with pytest.raises(InvalidParams) as refused:
        await create(home, **wrong)
    assert [issue.path for issue in refused.value.issues] == [("params", *path)]
    assert home.data(REMINDER) == []


async def test_a_weekday_that_is_named_twice_counts_once(home: Home) -> None:
    rule = {"frequency": "weekly", "weekdays": [5, 1, 5]}
    reminder = await create(home, recurrence=rule)
    assert reminder["recurrence"] == {"frequency": "weekly", "interval": 1, "weekdays": [1, 5]}


async def test_an_occurrence_is_completed_and_taken_back(home: Home) -> None:
    reminder = await create(home, recurrence={"frequency": "daily"})
    which = {"reminderId": reminder["id"], "occurrenceDueAt": "2026-03-02T12:00:00Z"}
    done = await home.act(SOURCE, "complete-reminder", **which, completedAt="2026-03-02T09:00:00Z")
    assert isinstance(done, dict)
    assert (done["originalDueAt"], done["completedAt"]) == (which["occurrenceDueAt"], "2026-03-02T09:00:00Z")
    assert home.data(REMINDER) == []
    again = await home.act(SOURCE, "uncomplete-reminder", **which)
    assert isinstance(again, dict)
    assert again["completedAt"] is None
    assert dues(home.data(REMINDER)) == ["2026-03-02T12:00:00Z"]


async def test_done_is_now_if_no_time_is_given(home: Home) -> None:
    reminder = await create(home)
    before = home.clock.now()
    done = await home.act(SOURCE, "complete-reminder", reminderId=reminder["id"])
    assert isinstance(done, dict)
    at = from_wire(str(done["completedAt"]))
    assert timedelta(seconds=-0.001) < at - before < timedelta(seconds=0.2)


async def test_one_occurrence_is_moved(home: Home) -> None:
    reminder = await create(home, recurrence={"frequency": "daily"})
    answer = await home.act(
        SOURCE,
        "update-reminder",
        reminderId=reminder["id"],
        scope="this-occurrence",
        occurrenceDueAt="2026-03-02T12:00:00Z",
        patch={"dueAt": "2026-03-02T18:00:00Z"},
    )
    assert isinstance(answer, dict)
    assert answer["kind"] == "updated-occurrence"
    [item] = home.of_type(REMINDER)
    assert item.id.endswith("-2026-03-02T12:00:00Z")
    assert item.data["dueAt"] == "2026-03-02T18:00:00Z"


async def test_a_series_is_split_into_two_reminders(home: Home) -> None:
    reminder = await create(home, recurrence={"frequency": "daily", "count": 3})
    answer = await home.act(
        SOURCE,
        "update-reminder",
        reminderId=reminder["id"],
        scope="this-and-future",
        occurrenceDueAt="2026-03-03T12:00:00Z",
        patch={"title": "Write"},
    )
    assert isinstance(answer, dict)
    original, future = answer["original"], answer["future"]
    assert isinstance(original, dict)
    assert isinstance(future, dict)
    assert (answer["kind"], original["id"]) == ("split-reminder", reminder["id"])
    assert future["id"] != reminder["id"]
    await home.put(SOURCE, {"lookAheadMs": 31 * 86_400_000})
    assert [(data["title"], data["dueAt"]) for data in home.data(REMINDER)] == [
        ("Call", "2026-03-02T12:00:00Z"),
        ("Write", "2026-03-03T12:00:00Z"),
        ("Write", "2026-03-04T12:00:00Z"),
    ]


async def test_the_whole_series_is_changed(home: Home) -> None:
    reminder = await create(home, recurrence={"frequency": "daily"})
    answer = await home.act(
        SOURCE,
        "update-reminder",
        reminderId=reminder["id"],
        scope="entire-series",
        patch={"dueAt": "2026-03-02T15:00:00Z", "notes": "x", "recurrence": None},
    )
    assert isinstance(answer, dict)
    assert answer["kind"] == "updated-reminder"
    assert [(data["dueAt"], data["recurrence"]) for data in home.data(REMINDER)] == [
        ("2026-03-02T15:00:00Z", None)
    ]


@pytest.mark.parametrize(
    ("scope", "kind", "left"),
    [
        ("this-occurrence", "deleted-occurrence", ["02", "04"]),
        ("this-and-future", "ended-reminder", ["02"]),
        ("entire-series", "deleted-reminder", []),
    ],
)
async def test_as_much_is_deleted_as_was_said(home: Home, scope: str, kind: str, left: list[str]) -> None:
    await home.put(SOURCE, {"lookAheadMs": 31 * 86_400_000})
    reminder = await create(home, recurrence={"frequency": "daily", "count": 3})
    answer = await home.act(
        SOURCE,
        "delete-reminder",
        reminderId=reminder["id"],
        scope=scope,
        occurrenceDueAt="2026-03-03T12:00:00Z",
    )
    assert isinstance(answer, dict)
    assert answer["kind"] == kind
    assert dues(home.data(REMINDER)) == [f"2026-03-{day}T12:00:00Z" for day in left]


@pytest.mark.parametrize(
    "action", ["update-reminder", "delete-reminder", "complete-reminder", "uncomplete-reminder"]
)
async def test_an_unknown_reminder_is_refused(home: Home, action: str) -> None:
    params: dict[str, JsonValue] = {"reminderId": "nobody", "occurrenceDueAt": "2026-03-02T12:00:00Z"}
    if action in ("update-reminder", "delete-reminder"):
        params["scope"] = "this-occurrence"
    if action == "update-reminder":
        params["patch"] = {"title": "x"}
    with pytest.raises(ActionFailed, match="no such reminder"):
        await home.act(SOURCE, action, **params)


async def test_a_refused_edit_writes_nothing(home: Home) -> None:
    reminder = await create(home, recurrence={"frequency": "daily"})
    before = home.session.seq
    with pytest.raises(ActionFailed, match="no occurrence"):
        await home.act(
            SOURCE, "complete-reminder", reminderId=reminder["id"], occurrenceDueAt="2026-03-02T13:00:00Z"
        )
    assert home.session.seq == before


@pytest.mark.parametrize("patch", [{}, {"title": None}, {"dueAt": None}, {"priority": None}, {"due": 1}])
async def test_a_patch_that_changes_nothing_or_takes_away_what_must_be_is_refused(
    home: Home, patch: dict[str, JsonValue]
) -> None:
    reminder = await create(home)
    with pytest.raises(InvalidParams):
        await home.act(
            SOURCE, "update-reminder", reminderId=reminder["id"], scope="entire-series", patch=patch
        )


async def test_which_occurrence_must_be_said_unless_all_are_meant(home: Home) -> None:
    with pytest.raises(InvalidParams, match="occurrenceDueAt"):
        await home.act(SOURCE, "delete-reminder", reminderId="r", scope="this-occurrence")


async def test_two_devices_that_complete_two_occurrences_at_once_lose_neither(house: House) -> None:
    async with house.home() as here, house.replica() as other:
        there = await house.in_(other)
        reminder = await create(here, recurrence={"frequency": "daily"})
        await there.settle()
        await here.put(SOURCE, {"lookAheadMs": 3 * 86_400_000})

        def params(day: int) -> dict[str, JsonValue]:
            return {"reminderId": reminder["id"], "occurrenceDueAt": f"2026-03-0{day}T12:00:00Z"}

        async with create_task_group() as group:
            group.start_soon(here.actions.execute, ALICE, SOURCE, "complete-reminder", params(2))
            group.start_soon(there.actions.execute, ALICE, SOURCE, "complete-reminder", params(3))
        await here.settle()
        await there.settle()
        assert dues(here.data(REMINDER)) == ["2026-03-04T12:00:00Z"]
        assert there.items == here.items


async def test_reminders_have_a_limit_that_is_said(home: Home, house: House) -> None:
    body, _ = to_stored(once("2030-01-01T12:00"))
    async with Database.open(house.url) as database, database.write(ALICE) as tx:
        for n in range(stored.MAX_REMINDERS):
            await stored.create(tx, ALICE, f"r{n}", body)
    with pytest.raises(LimitReached) as refused:
        await create(home)
    assert refused.value.data == {"limit": "reminders", "max": stored.MAX_REMINDERS, "temporary": False}


async def test_a_config_beyond_its_bounds_is_refused(home: Home) -> None:
    for config in ({"lookAheadMs": -1}, {"lookBackMs": 10**12}, {"defaultTimeZone": "x"}, {"lookAhead": 1}):
        with pytest.raises(InvalidSourceConfig) as refused:
            await home.put(SOURCE, config)
        assert [issue.path for issue in refused.value.issues] == [tuple(config)]
