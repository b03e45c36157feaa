from __future__ import annotations

from typing import Any

from tests.conformance.vectors import cases
from tests.push.conftest import ALICE, BOB, Server
from tests.push.peers import Peer, open_peer


@cases("errors.json")
async def test_a_bad_frame_gets_the_error_of_the_table(server: Server, case: dict[str, Any]) -> None:
    async with open_peer(server.address, server.token(ALICE, *case.get("scopes", ()))) as peer:
        for frame in case.get("first", ()):
            await peer.ws.send(frame)
            await peer.pick(lambda message: "method" not in message)
        await peer.ws.send(case["send"])
        answer = await peer.pick(lambda message: "method" not in message)
        assert (answer["id"], answer["error"]["code"]) == (case["id"], case["error"])
        assert isinstance(answer["error"]["data"]["temporary"], bool)
        for member, value in case.get("data", {}).items():
            assert answer["error"]["data"][member] == value


async def first_cursor(server: Server, user: str) -> str:
    async with open_peer(server.address, server.token(user)) as peer:
        return await settled_cursor(peer)


async def settled_cursor(peer: Peer) -> str:
    """The cursor of the first state in which every source has answered."""
    snapshot = await peer.next("feed.snapshot")
    cursor, pending = snapshot["cursor"], snapshot["pending"]
    while pending:
        delta = await peer.next("feed.delta")
        cursor, pending = delta["cursor"], delta.get("pending", pending)
    return cursor


async def happen(server: Server, what: str) -> None:
    session = await server.manager.get_or_create(ALICE)
    await session.answered(20.0)
    match what:
        case "change":
            count = len(session.history.current.state.items) + 1
            server.board.show(ALICE, **{f"note-{index}": "new" for index in range(count)})
        case "undo":
            server.board.show(ALICE)
        case "evict":
            await server.manager.remove(ALICE)
        case other:
            raise AssertionError(f"nothing is known of {other}")


@cases("resume.json")
async def test_a_connection_that_comes_back_gets_the_outcome(server: Server, case: dict[str, Any]) -> None:
    own, foreign = await first_cursor(server, ALICE), await first_cursor(server, BOB)
    for what in case["before"]:
        await happen(server, what)
    since = {"own": own, "foreign": foreign}.get(case["since"], case["since"])
    query = ("?" if since is None else f"?since={since}") + case.get("query", "")
    async with open_peer(server.address, server.token(ALICE), query=query) as peer:
        first = await peer.pick(lambda message: message["method"] in ("feed.snapshot", "feed.delta"))
        outcome = "snapshot"
        if first["method"] == "feed.delta":
            assert first["params"]["base"] == own
            changed = {"put", "move", "remove", "groups", "errors"} & set(first["params"])
            outcome = "delta" if changed else "empty"
        assert outcome == case["outcome"]
