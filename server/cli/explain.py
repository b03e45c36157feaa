"""freya explain: why a user's feed is the way it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from protocol.ids import UserId
from server.cli.reaching import TokenOption, UrlOption, UserArgument, UserOption

if TYPE_CHECKING:
    from protocol.client import LiveFeed
    from protocol.messages.objects import SourceState
    from protocol.messages.user import ConnectionView, ReplicaView, UserInspectResult

__all__ = ["explain"]


def explain(
    user: UserArgument = None,
    user_option: UserOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Tell why a user's feed is the way it is: connections, sources, errors, last changes, on every
    replica.
    """
    from protocol.feed import reading
    from protocol.messages.user import UserInspectResult
    from server.cli.asking import ask
    from server.cli.reaching import chosen_user
    from server.settings import Settings

    settings = Settings.load()
    name = chosen_user(user, user_option, "freya explain --user alice")

    async def inspect(live: LiveFeed) -> UserInspectResult:
        return UserInspectResult.read(reading.as_object(await live.call("user.inspect", {"user": name})))

    found = ask(settings, UserId("operator"), ("admin",), url, token, inspect)
    sys.stdout.write("".join(f"{line}\n" for line in _told(name, found)))


def _told(user: str, found: UserInspectResult) -> Iterator[str]:
    from server.cli.showing import clean

    for replica in found.replicas:
        yield f"{clean(user)} on {clean(replica.replica)}"
        yield from _replica(replica)
    if not found.replicas:
        yield f"{clean(user)} has no session anywhere"
    yield from (f"! replica {clean(name)} did not answer" for name in found.unreachable)


def _replica(replica: ReplicaView) -> Iterator[str]:
    from server.cli.showing import age, clean

    now = datetime.now(UTC)
    yield f"  connections: {len(replica.connections)}"
    yield from (f"    {_connection(connection, now)}" for connection in replica.connections)
    if replica.closes:
        yield "  ended lately:"
    for close in replica.closes:
        who = f"  {clean(close.client)}" if close.client else ""
        yield f"    {age((now - close.at).total_seconds())} ago  {close.code} {clean(close.reason)}{who}"
    yield "  sources:"
    yield from (f"    {_source(source, now)}" for source in replica.sources)
    if replica.causes:
        yield "  last changes:"
    for cause in replica.causes:
        by = f" by {clean(cause.source_id)}" if cause.source_id else ""
        yield f"    {cause.trigger}{by}: {cause.compute_ms:.1f} ms to derive, {cause.waited_ms:.0f} ms waited"


def _connection(view: ConnectionView, now: datetime) -> str:
    from server.cli.showing import age, clean

    words = [clean(view.connection), f"for {age((now - view.since).total_seconds())}"]
    if view.client:
        words.append(f"client {clean(view.client)}")
    words.append("in the background" if view.background else "in the foreground")
    if not view.writable:
        words.append(f"slow: {view.buffered_bytes:,} bytes wait in its socket")
    if view.sent is None:
        words.append("nothing sent yet")
    elif view.acked is not None:
        words.append(
            "shows the newest" if view.acked == view.sent else "has not said that it shows the newest"
        )
    if view.last_resume is not None:
        words.append(f"began with {clean(view.last_resume.outcome)}")
    return ", ".join(words)


def _source(source: SourceState, now: datetime) -> str:
    from server.cli.showing import age, clean

    words = [f"{source.source_id}  {source.status}  version {source.version}"]
    if source.blocked_by:
        words.append(f"needs {clean(source.blocked_by)}")
    if source.error is not None:
        words.append(f"{source.error.code}: {clean(source.error.message)}")
    if source.last_ok_at is not None:
        words.append(f"last answered {age((now - source.last_ok_at).total_seconds())} ago")
    return ", ".join(words)
