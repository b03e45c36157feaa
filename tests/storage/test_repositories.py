from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from protocol.ids import ReplicaId, SourceId, UserId
from storage import (
    action_results,
    dismissals,
    enhancements,
    providers,
    reminders,
    revocations,
    source_configs,
    source_state,
    users,
)
from storage.database import Database
from storage.errors import LimitReached, NoRow, VersionMismatch
from storage.source_configs import KEEP, DefaultRow

ALICE = UserId("alice")
BOB = UserId("bob")
CLOCK = SourceId("freya.clock")
NEWS = SourceId("freya.news")
HERE = ReplicaId("here")
THERE = ReplicaId("there")
PAST = datetime(2020, 1, 1, tzinfo=UTC)


# -- source_configs


async def test_a_config_comes_back_as_it_was_put(database: Database) -> None:
    config = {"names": ["a", "ü", ""], "deep": {"x": None, "y": [1, 2.5, True]}, "big": 2**53}
    async with database.write(ALICE) as tx:
        put = await source_configs.put(tx, ALICE, NEWS, False, config, b"sealed")
    assert put == await source_configs.get(database, ALICE, NEWS)
    assert put == source_configs.SourceConfigRow(NEWS, False, config, b"sealed", tx.seq, put.updated_at)
    assert put.updated_at.tzinfo is not None
    assert await source_configs.get(database, BOB, NEWS) is None


async def test_a_put_keeps_replaces_or_erases_credentials_as_it_is_told(database: Database) -> None:
    kept: list[bytes | None] = []
    for credentials in (b"one", KEEP, b"two", None, KEEP):
        async with database.write(ALICE) as tx:
            row = await source_configs.put(tx, ALICE, NEWS, True, {}, credentials)
            kept.append(row.credentials)
    assert kept == [b"one", b"one", b"two", None, None]


async def test_deleting_a_source_erases_its_row_and_credentials(database: Database) -> None:
    async with database.write(ALICE) as tx:
        await source_configs.put(tx, ALICE, NEWS, True, {}, b"secret")
        await source_configs.put(tx, ALICE, CLOCK, True, {}, None)
        assert await source_configs.delete(tx, ALICE, NEWS)
        assert not await source_configs.delete(tx, ALICE, NEWS)
    assert [row.source_id for row in await source_configs.list_(database, ALICE)] == [CLOCK]


async def test_a_condition_on_the_version_is_met_or_says_the_current_one(database: Database) -> None:
    async with database.write(ALICE) as tx:
        row = await source_configs.put(tx, ALICE, NEWS, True, {}, None)
    source_configs.require_version(row, None)
    source_configs.require_version(row, row.version)
    source_configs.require_version(None, 0)
    with pytest.raises(VersionMismatch) as moved:
        source_configs.require_version(row, row.version + 1)
    assert moved.value.current == row.version
    with pytest.raises(VersionMismatch) as there_is_none:
        source_configs.require_version(None, 3)
    assert there_is_none.value.current == 0


async def test_defaults_are_given_once_and_what_was_deleted_stays_deleted(database: Database) -> None:
    defaults = [DefaultRow(CLOCK, True, {}), DefaultRow(NEWS, False, {"a": 1})]
    async with database.write(ALICE) as tx:
        mine = await source_configs.put(tx, ALICE, NEWS, True, {"mine": True}, None)
    async with database.write(ALICE) as tx:
        assert await source_configs.give_defaults(tx, ALICE, defaults)
    clock, news = await source_configs.list_(database, ALICE)
    assert (clock.source_id, clock.version, news) == (CLOCK, tx.seq, mine)
    async with database.write(ALICE) as tx:
        await source_configs.delete(tx, ALICE, CLOCK)
    async with database.write(ALICE) as tx:
        assert not await source_configs.give_defaults(tx, ALICE, defaults)
    assert await source_configs.list_(database, ALICE) == [mine]


# -- source_state


async def test_the_state_and_what_is_saved_beside_it_do_not_disturb_each_other(database: Database) -> None:
    async with database.write(ALICE) as tx:
        await source_state.put_state(tx, ALICE, CLOCK, {"fix": [1.25, 2]})
    seq = tx.seq
    assert await source_state.save(database, ALICE, {CLOCK: b"items", NEWS: b"more"})
    clock = await source_state.get(database, ALICE, CLOCK)
    assert clock is not None
    assert clock.saved_at is not None
    assert (clock.state, clock.saved) == ({"fix": [1.25, 2]}, b"items")
    async with database.write(ALICE) as tx:
        await source_state.put_state(tx, ALICE, CLOCK, None)
    assert tx.seq == seq + 1  # saving raised nothing
    again = await source_state.get(database, ALICE, CLOCK)
    assert again == source_state.StateRow(CLOCK, None, b"items", clock.saved_at)
    async with database.write(ALICE) as tx:
        assert await source_state.delete(tx, ALICE, CLOCK)
    assert [row.source_id for row in await source_state.list_(database, ALICE)] == [NEWS]


async def test_a_state_put_at_once_is_a_write_in_the_users_order(database: Database) -> None:
    assert await source_state.put_state_at_once(database, ALICE, CLOCK, {"n": 0}) is None
    assert not await users.exists(database, ALICE)
    async with database.write(ALICE):
        pass
    assert [await source_state.put_state_at_once(database, ALICE, CLOCK, {"n": n}) for n in range(3)] == [
        2,
        3,
        4,
    ]
    row = await source_state.get(database, ALICE, CLOCK)
    assert row is not None
    assert row.state == {"n": 2}
    assert await database.differing([(ALICE, 0)]) == [(ALICE, 4)]


async def test_states_put_at_once_from_two_replicas_take_turns(database: Database, other: Database) -> None:
    async with database.write(ALICE):
        pass
    by_seq: dict[int, int] = {}

    async def report(through: Database, place: int) -> None:
        seq = await source_state.put_state_at_once(through, ALICE, CLOCK, {"n": place})
        assert seq is not None
        by_seq[seq] = place

    async with anyio.create_task_group() as group:
        for place in range(20):
            group.start_soon(report, database if place % 2 else other, place)
    assert sorted(by_seq) == list(range(2, 22))
    row = await source_state.get(database, ALICE, CLOCK)
    assert row is not None
    assert row.state == {"n": by_seq[21]}


async def test_of_one_user_so_much_is_saved_and_the_small_sources_first(database: Database) -> None:
    async with database.write(ALICE):
        pass
    most = source_state.MAX_SAVED_BYTES
    saved = {
        SourceId("big"): b"b" * most,
        SourceId("small"): b"s" * 100,
        SourceId("rest"): b"r" * (most - 100),
    }
    assert await source_state.save(database, ALICE, saved)
    rows = await source_state.list_(database, ALICE)
    assert [row.source_id for row in rows] == ["rest", "small"]


async def test_saving_many_users_leaves_out_those_who_are_gone(database: Database) -> None:
    everyone = [UserId(f"user-{number}") for number in range(40)]
    for user in everyone[::2]:
        async with database.write(user):
            pass
    blob = b"x" * (source_state.MAX_SAVED_BYTES // 2)
    assert await source_state.save_many(database, {user: {CLOCK: blob, NEWS: b"n"} for user in everyone})
    rows = await database.fetch("SELECT DISTINCT user_id FROM source_state")
    assert {row[0] for row in rows} == set(everyone[::2])
    assert await source_state.save_many(database, {})
    assert await source_state.save_many(database, {ALICE: {}})


# -- reminders


async def test_reminders_are_created_changed_listed_and_deleted(database: Database) -> None:
    async with database.write(ALICE) as tx:
        first = await reminders.create(tx, ALICE, "1", {"title": "milk"})
        await reminders.create(tx, ALICE, "2", {"title": "bread"})
    assert first == await reminders.get(database, ALICE, "1")
    assert await reminders.get(database, BOB, "1") is None
    async with database.write(ALICE) as tx:
        changed = await reminders.update(tx, ALICE, "1", overrides={"2026-01-01": {"done": True}})
        assert (changed.body, changed.overrides) == ({"title": "milk"}, {"2026-01-01": {"done": True}})
        changed = await reminders.update(tx, ALICE, "1", body={"title": "oat milk"})
        assert (changed.body, changed.overrides) == ({"title": "oat milk"}, {"2026-01-01": {"done": True}})
    assert [row.id for row in await reminders.list_(database, ALICE)] == ["1", "2"]
    async with database.write(ALICE) as tx:
        assert await reminders.delete(tx, ALICE, "1")
        assert not await reminders.delete(tx, ALICE, "1")
        with pytest.raises(NoRow):
            await reminders.update(tx, ALICE, "1", body={})


async def test_a_user_has_a_bounded_number_of_reminders(database: Database) -> None:
    async with database.write(ALICE) as tx:
        await tx.run(
            "INSERT INTO reminders (user_id, reminder_id, body)"
            " SELECT $1, number::text, '{}' FROM generate_series(1, $2::int) AS number",
            ALICE,
            reminders.MAX_REMINDERS,
        )
        with pytest.raises(LimitReached) as limit:
            await reminders.create(tx, ALICE, "one more", {})
    assert limit.value.maximum == reminders.MAX_REMINDERS
    assert len(await reminders.list_(database, ALICE)) == reminders.MAX_REMINDERS


# -- dismissals


async def test_a_dismissal_is_kept_once_per_item_with_its_last_hash(database: Database) -> None:
    later = datetime.now(UTC) + timedelta(hours=24)
    for content_hash, until in ((b"old", None), (b"new", later)):
        async with database.write(ALICE) as tx:
            await dismissals.add(tx, ALICE, "item", content_hash, until)
    (row,) = await dismissals.list_(database, ALICE)
    assert (row.item_id, row.hash, row.until) == ("item", b"new", later)


async def test_past_the_limit_the_oldest_dismissal_goes_and_what_is_over_first(database: Database) -> None:
    async with database.write(ALICE) as tx:
        for number in range(dismissals.MAX_DISMISSALS):
            await dismissals.add(tx, ALICE, f"item-{number:03}", b"h", None)
    async with database.write(ALICE) as tx:
        await dismissals.add(tx, ALICE, "item-000", b"again", None)  # the newest now
    async with database.write(ALICE) as tx:
        await dismissals.add(tx, ALICE, "over", b"h", PAST)
    ids = {row.item_id for row in await dismissals.list_(database, ALICE)}
    assert len(ids) == dismissals.MAX_DISMISSALS
    assert {"item-000", "over"} <= ids
    assert "item-001" not in ids
    async with database.write(ALICE) as tx:
        await dismissals.add(tx, ALICE, "one more", b"h", None)
    ids = {row.item_id for row in await dismissals.list_(database, ALICE)}
    assert "over" not in ids
    assert "item-002" in ids
    assert len(ids) == dismissals.MAX_DISMISSALS


# -- enhancements


async def lease(database: Database, replica: ReplicaId, content: bytes, *, calls_per_hour: int = 10) -> bool:
    return await enhancements.try_lease(
        database, ALICE, replica, content, 45.0, calls_per_hour=calls_per_hour
    )


async def test_of_many_replicas_one_gets_the_lease(database: Database, other: Database) -> None:
    async with database.write(ALICE):
        pass
    taken: list[ReplicaId] = []

    async def ask(through: Database, replica: ReplicaId) -> None:
        if await lease(through, replica, b"input"):
            taken.append(replica)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(ask, database if number % 2 else other, ReplicaId(f"replica-{number}"))
    row = await enhancements.get(database, ALICE)
    assert row is not None
    assert taken == [row.leased_by]
    assert (row.calls, row.input_hash) == (1, None)


async def test_an_answer_is_stored_by_the_holder_of_the_lease_alone(database: Database) -> None:
    async with database.write(ALICE):
        pass
    assert await lease(database, HERE, b"input")
    async with database.write(ALICE) as tx:
        assert not await enhancements.store(tx, ALICE, THERE, b"input", {"x": 1}, [])
        assert not await enhancements.store(tx, ALICE, HERE, b"other input", {"x": 1}, [])
        assert await enhancements.store(tx, ALICE, HERE, b"input", {"i": {"s": "text"}}, [{"id": "n"}])
    row = await enhancements.get(database, ALICE)
    assert row is not None
    assert (row.input_hash, row.fills, row.synthetic) == (b"input", {"i": {"s": "text"}}, [{"id": "n"}])
    assert (row.leased_by, row.lease_until) == (None, None)
    assert not await lease(database, THERE, b"input")  # answered
    assert await lease(database, THERE, b"newer input")


async def test_a_lease_given_back_or_run_out_is_free_again(database: Database) -> None:
    async with database.write(ALICE):
        pass
    assert await lease(database, HERE, b"input")
    await enhancements.release(database, ALICE, THERE, b"input")  # not theirs
    assert not await lease(database, THERE, b"input")
    await enhancements.release(database, ALICE, HERE, b"input")
    assert await lease(database, THERE, b"input")
    await database.run("UPDATE enhancements SET lease_until = now() - interval '1 second'")
    assert await lease(database, HERE, b"input")


async def test_the_hours_budget_is_shared_and_begins_anew_with_the_hour(database: Database) -> None:
    async with database.write(ALICE):
        pass
    for number in range(2):
        assert await lease(database, HERE, b"%d" % number, calls_per_hour=2)
        await enhancements.release(database, ALICE, HERE, b"%d" % number)
    assert not await lease(database, THERE, b"3", calls_per_hour=2)
    await database.run("UPDATE enhancements SET hour = hour - interval '1 hour'")
    assert await lease(database, THERE, b"3", calls_per_hour=2)
    assert not await lease(database, THERE, b"4", calls_per_hour=0)


async def test_nobody_leases_for_a_user_who_does_not_exist(database: Database) -> None:
    assert not await lease(database, HERE, b"input")
    assert await enhancements.get(database, ALICE) is None


# -- providers and revocations


async def test_provider_settings_carry_the_global_order(database: Database) -> None:
    for blob in (b"one", b"two"):
        async with database.write_global() as tx:
            row = await providers.put(tx, NEWS, blob)
        assert row.version == tx.seq == await database.global_seq()
    assert await providers.list_(database) == [row]
    assert await providers.get(database, NEWS) == row
    async with database.write_global() as tx:
        assert await providers.delete(tx, NEWS)
    assert await providers.get(database, NEWS) is None


async def test_revocations_are_read_by_user_and_by_what_is_new(database: Database) -> None:
    async with database.write_global() as tx:
        alice = await revocations.put(tx, ALICE, PAST)
    first = tx.seq
    async with database.write_global() as tx:
        bob = await revocations.put(tx, BOB, PAST)
    assert await revocations.get(database, ALICE) == alice
    assert await revocations.get(database, UserId("carol")) is None
    assert await revocations.changed_since(database, 0) == [alice, bob]
    assert await revocations.changed_since(database, first) == [bob]
    assert await revocations.changed_since(database, tx.seq) == []


async def test_an_earlier_time_takes_no_revocation_back(database: Database) -> None:
    async with database.write_global() as tx:
        await revocations.put(tx, ALICE, PAST)
    async with database.write_global() as tx:
        row = await revocations.put(tx, ALICE, PAST - timedelta(days=1))
    assert (row.issued_before, row.version) == (PAST, tx.seq)


async def test_a_revocation_outlives_the_user(database: Database) -> None:
    async with database.write_global() as tx:
        revoked = await revocations.put(tx, ALICE, PAST)
    async with database.write(ALICE) as tx:
        await users.delete_everything(tx, ALICE)
    assert await revocations.get(database, ALICE) == revoked


# -- action_results


async def test_of_repeats_that_arrive_together_one_does_the_work(database: Database, other: Database) -> None:
    async with database.write(ALICE):
        pass
    claims: list[str] = []

    async def ask(through: Database, number: int) -> None:
        claim = await action_results.claim(through, ALICE, "key", ReplicaId(f"r{number}"), 30)
        claims.append(claim.state)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(ask, database if number % 2 else other, number)
    assert sorted(claims) == ["mine"] + ["running"] * 9


async def test_a_repeat_gets_the_first_answer(database: Database) -> None:
    async with database.write(ALICE):
        pass
    assert (await action_results.claim(database, ALICE, "key", HERE, 30)).state == "mine"
    assert not await action_results.finish(database, ALICE, "key", THERE, {"result": 2})
    assert await action_results.finish(database, ALICE, "key", HERE, {"result": 1})
    assert not await action_results.finish(database, ALICE, "key", HERE, {"result": 3})
    repeat = await action_results.claim(database, ALICE, "key", THERE, 30)
    assert repeat == action_results.Claim("done", {"result": 1})
    assert await action_results.get(database, ALICE, "other key") is None


async def test_an_answer_written_with_the_work_is_the_first_one_for_everybody(
    database: Database, other: Database
) -> None:
    answers: list[object] = []

    async def do(through: Database, number: int) -> None:
        async with through.write(ALICE) as tx:
            answers.append(await action_results.remember(tx, ALICE, "key", {"made": number}))

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(do, database if number % 2 else other, number)
    assert len(answers) == 8
    assert answers == [answers[0]] * 8


async def test_a_claim_given_back_or_run_out_is_free_again(database: Database) -> None:
    async with database.write(ALICE):
        pass
    assert (await action_results.claim(database, ALICE, "key", HERE, 30)).state == "mine"
    await action_results.release(database, ALICE, "key", THERE)  # not theirs
    assert (await action_results.claim(database, ALICE, "key", THERE, 30)).state == "running"
    await action_results.release(database, ALICE, "key", HERE)
    assert (await action_results.claim(database, ALICE, "key", THERE, 30)).state == "mine"
    await database.run("UPDATE action_results SET lease_until = now() - interval '1 second'")
    assert (await action_results.claim(database, ALICE, "key", HERE, 30)).state == "mine"
    assert not await action_results.finish(database, ALICE, "key", THERE, "too late")


async def test_answers_are_kept_for_a_day(database: Database) -> None:
    async with database.write(ALICE) as tx:
        await action_results.remember(tx, ALICE, "old", 1)
        await action_results.remember(tx, ALICE, "new", 2)
    await database.run(
        "UPDATE action_results SET created_at = now() - make_interval(hours => $1) WHERE key = 'old'",
        action_results.KEPT_H,
    )
    assert await action_results.get(database, ALICE, "old") is None
    assert (await action_results.claim(database, ALICE, "old", HERE, 30)).state == "mine"
    await database.run("UPDATE action_results SET created_at = now() - interval '25 hours' WHERE key = 'old'")
    assert await action_results.prune(database) == 1
    assert await action_results.get(database, ALICE, "new") == action_results.Claim("done", 2)


async def test_an_action_of_a_user_without_a_row_is_refused(database: Database) -> None:
    with pytest.raises(NoRow):
        await action_results.claim(database, ALICE, "key", HERE, 30)
