"""A process that needs its memory lets idle sessions go."""

from __future__ import annotations

from protocol.ids import UserId
from server.session.user_session import UserSession
from tests.session.conftest import ALICE, Listener, World


async def test_the_longest_idle_sessions_go_and_those_in_use_stay(world: World) -> None:
    replica = await world.replica()
    sessions: list[UserSession] = []
    for name in "abcd":
        sessions.append(await replica.session(UserId(name)))
        await world.advance(10.0)
    sessions[0].attach(Listener())

    assert replica.manager.shed(2) == 2
    assert [session.closed for session in sessions] == [False, True, True, False]
    assert replica.manager.shed(10) == 1
    assert replica.manager.shed(10) == 0
    assert replica.manager.statistics().directory.evicted == 3
    assert replica.manager.statistics().directory.limits == {"max_sessions": 0, "memory_high_mib": 3}


async def test_a_session_just_handed_out_is_not_taken_away(world: World) -> None:
    replica = await world.replica()
    session = await replica.manager.get_or_create(ALICE)
    assert replica.manager.shed(10) == 0
    assert not session.closed
