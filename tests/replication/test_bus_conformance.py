"""What every bus promises, tried on everything that carries one."""

from __future__ import annotations

from protocol.ids import UserId
from server.replication.bus import Hint
from tests.replication.conftest import Town

ALICE, BOB = UserId("alice"), UserId("bob")
STRANGE = UserId('a:b {c}* "ü" \U0001f600')


async def test_a_hint_reaches_every_replica_that_watches_its_user_and_no_other(town: Town) -> None:
    speaker, watcher, other = await town.post(), await town.post(), await town.post()
    await watcher.watch(ALICE)
    await other.watch(BOB)
    speaker.bus.announce(Hint(ALICE, 7))
    await watcher.until(lambda: Hint(ALICE, 7) in watcher.hints)
    speaker.bus.announce(Hint(BOB, 8))
    await other.until(lambda: bool(other.hints))
    assert other.hints == [Hint(BOB, 8)]
    assert watcher.hints == [Hint(ALICE, 7)]


async def test_a_hint_about_nobody_reaches_everybody(town: Town) -> None:
    speaker, first, second = await town.post(), await town.post(), await town.post()
    speaker.bus.announce(Hint(None, 3))
    for post in (first, second):
        await post.until(lambda post=post: post.hints == [Hint(None, 3)])


async def test_who_is_no_longer_watched_is_no_longer_heard_of(town: Town) -> None:
    speaker, post = await town.post(), await town.post()
    await post.watch(ALICE)
    await post.watch(BOB)
    post.bus.unwatch(ALICE)
    # The change of subscription takes a moment: after another one, it has been made too.
    await post.watch(STRANGE)
    speaker.bus.announce(Hint(ALICE, 1))
    speaker.bus.announce(Hint(BOB, 2))
    await post.until(lambda: Hint(BOB, 2) in post.hints)
    assert post.hints == [Hint(BOB, 2)]


async def test_watching_is_idempotent_and_can_be_taken_up_again(town: Town) -> None:
    speaker, post = await town.post(), await town.post()
    for _ in range(2):
        post.bus.watch(ALICE)
        post.bus.unwatch(ALICE)
        post.bus.unwatch(ALICE)
        post.bus.watch(ALICE)
    await post.watch(BOB)
    await post.watch(ALICE)
    speaker.bus.announce(Hint(ALICE, 5))
    await post.until(lambda: bool(post.hints))
    assert post.hints == [Hint(ALICE, 5)]
    assert post.bus.statistics().watched == 2


async def test_any_name_of_a_user_may_be_watched(town: Town) -> None:
    speaker, post = await town.post(), await town.post()
    await post.watch(STRANGE)
    speaker.bus.announce(Hint(STRANGE, 2**53))
    await post.until(lambda: post.hints == [Hint(STRANGE, 2**53)])


async def test_of_a_user_who_writes_in_bursts_the_newest_hint_arrives(town: Town) -> None:
    speaker, post = await town.post(), await town.post()
    await post.watch(ALICE)
    for seq in range(1, 1001):
        speaker.bus.announce(Hint(ALICE, seq))
    await post.until(lambda: Hint(ALICE, 1000) in post.hints)
    assert len(post.hints) < 1000
    assert len(set(post.hints)) == len(post.hints)


async def test_a_thousand_users_are_watched_at_once(town: Town) -> None:
    speaker, post = await town.post(), await town.post()
    users = [UserId(f"user-{number}") for number in range(1200)]
    for user in users:
        post.bus.watch(user)
    await post.watch(users[-1])
    for user in users:
        speaker.bus.announce(Hint(user, 1))
    await post.until(lambda: len(post.hints) == len(users))
    assert {hint.user for hint in post.hints} == set(users)


async def test_a_word_reaches_the_one_it_is_for_or_everybody(town: Town) -> None:
    speaker, first, second = await town.post(), await town.post(), await town.post()
    speaker.bus.tell(b'{"for":"second"}', second.name)
    await second.until(lambda: second.words == [b'{"for":"second"}'])
    speaker.bus.tell(b'{"for":"all"}')
    for post in (first, second):
        await post.until(lambda post=post: post.words[-1:] == [b'{"for":"all"}'])
    assert first.words == [b'{"for":"all"}']


async def test_a_word_that_is_too_long_is_dropped_and_counted(town: Town) -> None:
    speaker, post = await town.post(), await town.post()
    speaker.bus.tell(b"{" + b" " * (1 << 20) + b"}")
    speaker.bus.tell(b'{"short":1}')
    await post.until(lambda: bool(post.words))
    assert post.words == [b'{"short":1}']
    assert speaker.bus.statistics().dropped == 1


async def test_what_was_done_is_counted(town: Town) -> None:
    speaker, post = await town.post(), await town.post()
    await post.watch(ALICE)
    speaker.bus.announce(Hint(ALICE, 1))
    await post.until(lambda: bool(post.hints))
    assert speaker.bus.statistics().announced == 1
    assert post.bus.statistics().received == 1
    assert post.bus.statistics().breaks == 0
    assert post.health == []
