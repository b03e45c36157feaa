"""What the bus does when Redis, or the way to it, fails."""

from __future__ import annotations

import pytest
from anyio import create_task_group, fail_after

from protocol.ids import ReplicaId, UserId
from server.replication.address import RedisAddress
from server.replication.bus import Hint
from server.replication.outbox import Outbox
from server.replication.probe import BusUnreachable, ask_redis, open_redis_bus
from server.replication.redis import RedisBus
from tests.replication.conftest import PATIENCE_S, QUICK, Post, Town
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer

ALICE, BOB = UserId("alice"), UserId("bob")


async def _hears_again(speaker: Post, post: Post, seq: int) -> None:
    """Both are well, and what one announces the other hears."""
    for each in (speaker, post):
        await each.until(lambda each=each: each.bus.healthy)
    speaker.bus.announce(Hint(ALICE, seq))
    await post.until(lambda: Hint(ALICE, seq) in post.hints)


async def test_a_link_that_silently_carries_nothing_is_noticed_by_the_missing_echo(
    frail: Town, proxy: Proxy
) -> None:
    speaker, post = await frail.post(), await frail.post()
    await post.watch(ALICE)
    proxy.hold()
    await post.until(lambda: post.health == [False])
    assert not post.bus.healthy
    assert post.bus.statistics().breaks == 1
    proxy.release()
    await _hears_again(speaker, post, 1)
    assert post.health[:2] == [False, True]


async def test_after_a_reset_every_watched_user_is_subscribed_to_anew(frail: Town, proxy: Proxy) -> None:
    speaker, post = await frail.post(), await frail.post()
    users = [UserId(f"user-{number}") for number in range(1200)]
    for user in (*users, ALICE):
        post.bus.watch(user)
    await post.watch(ALICE)
    proxy.cut()
    await post.until(lambda: post.health == [False, True])
    await speaker.until(lambda: speaker.health == [False, True])
    for user in users:
        speaker.bus.announce(Hint(user, 2))
    await post.until(lambda: len(post.hints) == len(users))


async def test_a_killed_subscription_is_a_break_even_though_redis_answers(
    frail: Town, redis_server: RedisServer
) -> None:
    speaker, post = await frail.post(), await frail.post()
    await post.watch(ALICE)
    redis_server.command("CLIENT KILL TYPE pubsub")
    await post.until(lambda: post.health == [False, True])
    await _hears_again(speaker, post, 3)


async def test_a_redis_that_restarts_empty_is_followed_again(frail: Town, redis_server: RedisServer) -> None:
    speaker, post = await frail.post(), await frail.post()
    await post.watch(ALICE)
    redis_server.kill()
    await post.until(lambda: post.health == [False])
    redis_server.start()
    await _hears_again(speaker, post, 4)


async def test_a_redis_that_stands_still_is_a_break_and_then_is_none(
    frail: Town, redis_server: RedisServer
) -> None:
    speaker, post = await frail.post(), await frail.post()
    await post.watch(ALICE)
    redis_server.pause()
    try:
        await post.until(lambda: post.health == [False])
    finally:
        redis_server.resume()
    await _hears_again(speaker, post, 5)


async def test_who_is_watched_while_the_bus_is_away_is_heard_of_afterwards(frail: Town, proxy: Proxy) -> None:
    speaker, post = await frail.post(), await frail.post()
    await post.watch(BOB)
    proxy.refuses = True
    proxy.cut()
    await post.until(lambda: post.health == [False])
    post.bus.watch(ALICE)
    post.bus.unwatch(BOB)
    with fail_after(PATIENCE_S):
        await post.bus.wait_watching([ALICE])
    proxy.refuses = False
    await _hears_again(speaker, post, 6)
    assert post.bus.statistics().watched == 1


async def test_a_bus_begins_without_redis_and_joins_when_it_comes(redis_server: RedisServer) -> None:
    redis_server.kill()
    address = RedisAddress.parse(redis_server.url, timeout_s=1.0)
    post = Post(RedisBus(address.connector(), ReplicaId("r"), options=QUICK), ReplicaId("r"))
    async with create_task_group() as group:
        with fail_after(PATIENCE_S):
            await post.start(group)
        assert post.health == [False]
        redis_server.start()
        await post.until(lambda: post.health == [False, True])
        group.cancel_scope.cancel()


async def test_messages_that_make_no_sense_are_dropped_and_counted(
    frail: Town, redis_server: RedisServer
) -> None:
    speaker, post = await frail.post(), await frail.post()
    await post.watch(ALICE)
    nonsense = ["x", "-1", "1.5", "9" * 40, '"\\xff\\xfe"', '{"word":"not for here"}']
    for text in nonsense:
        redis_server.command(
            f"PUBLISH freya:user:alice '{text}'" if text[0] != '"' else f"PUBLISH freya:user:alice {text}"
        )
    redis_server.command("PUBLISH freya:replica:r2 hello")
    await _hears_again(speaker, post, 7)
    assert post.hints == [Hint(ALICE, 7)]
    assert post.bus.statistics().dropped == len(nonsense) + 1


async def test_an_echo_that_somebody_else_makes_up_counts_for_nothing(
    frail: Town, redis_server: RedisServer
) -> None:
    post = await frail.post()
    for text in ("x", "999999", "-1"):
        redis_server.command(f"PUBLISH freya:echo:r1 {text}")
    await post.watch(ALICE)
    assert post.bus.healthy


def test_past_its_bound_the_outbox_drops_the_oldest_hints_and_counts_them() -> None:
    outbox = Outbox(most_hints=3)
    for number in range(5):
        outbox.put_hint(Hint(UserId(f"user-{number}"), 1))
    outbox.put_hint(Hint(UserId("user-2"), 9))
    assert outbox.take(10) == [
        Hint(UserId("user-3"), 1),
        Hint(UserId("user-4"), 1),
        Hint(UserId("user-2"), 9),
    ]
    assert outbox.dropped == 2


def test_a_hint_never_takes_back_what_a_later_one_said() -> None:
    outbox = Outbox(most_hints=3)
    outbox.put_hint(Hint(ALICE, 9))
    outbox.put_hint(Hint(ALICE, 4))
    assert outbox.take(10) == [Hint(ALICE, 9)]


def test_words_are_bounded_too() -> None:
    outbox = Outbox(most_hints=3)
    for number in range(300):
        outbox.put_word(b"{%d}" % number, None)
    said = outbox.take(10)
    assert len(said) + outbox.dropped == 300
    assert said[-1] == (b"{299}", None)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://localhost", "must begin with"),
        ("redis+sentinel://localhost:26379", "service's name"),
        ("redis+sentinel://localhost:x/mymaster", "host:port"),
        ("redis+cluster://", "host:port"),
        ("redis://localhost:99999", "port"),
    ],
)
def test_a_wrong_address_says_what_is_wrong_with_it(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RedisAddress.parse(url)


def test_an_address_is_shown_without_its_password() -> None:
    shown = RedisAddress.parse("redis://user:hidden@example.org:6380/2").shown
    assert shown == "redis://example.org:6380/2"


async def test_where_no_redis_is_a_start_fails_with_one_sentence_that_names_no_password() -> None:
    url = f"redis://user:hidden@127.0.0.1:{free_port()}"
    with pytest.raises(BusUnreachable, match="REDIS_URL") as caught:
        await open_redis_bus(url, ReplicaId("r"), timeout_s=5.0, required=True)
    assert "hidden" not in str(caught.value)


async def test_where_redis_is_not_required_a_start_goes_on_without_it() -> None:
    bus = await open_redis_bus(
        f"redis://127.0.0.1:{free_port()}", ReplicaId("r"), timeout_s=5.0, required=False
    )
    assert not bus.healthy


async def test_a_redis_that_does_not_answer_is_given_up_in_time(redis_server: RedisServer) -> None:
    redis_server.pause()
    try:
        with pytest.raises(BusUnreachable), fail_after(PATIENCE_S):
            await ask_redis(redis_server.url, timeout_s=0.3)
    finally:
        redis_server.resume()


async def test_a_redis_that_answers_says_what_it_is(redis_url: str) -> None:
    assert (await ask_redis(redis_url)).version[0].isdigit()
