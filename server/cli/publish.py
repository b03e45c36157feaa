"""freya publish: an item into users' inboxes, as a backend service would put it there."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from protocol.ids import UserId
from server.cli.reaching import TokenOption, UrlOption
from server.cli.stop import Stop

if TYPE_CHECKING:
    from protocol.client import LiveFeed
    from protocol.frozen import JsonObject

__all__ = ["publish"]


def publish(
    users: Annotated[list[str], typer.Argument(help="Whose inboxes.")],
    title: Annotated[str | None, typer.Option(help="What it says.")] = None,
    text: Annotated[str | None, typer.Option(help="What it says further.")] = None,
    kind: Annotated[str, typer.Option("--type", help="The item's type.")] = "message",
    item_id: Annotated[
        str | None, typer.Option("--id", help="The same id replaces. Default: a new one.")
    ] = None,
    urgency: Annotated[
        float | None, typer.Option(min=0, max=1, help="0 to 1; from 0.8 on it goes at once.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="It is hidden after 90s, 15m, 12h, 7d.")] = None,
    item: Annotated[
        str | None, typer.Option(help="The whole item as JSON instead; - reads standard input.")
    ] = None,
    retract: Annotated[str | None, typer.Option(help="Take the item of this id back instead.")] = None,
    publisher: Annotated[
        str, typer.Option("--as", help="Who publishes: ids are each publisher's own.")
    ] = "cli",
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Publish an item for users. Prints its id, and whom it reached."""
    from server.cli.asking import ask
    from server.settings import Settings

    settings = Settings.load()
    scopes = ("item:publish",)
    if retract is not None:
        identity = retract

        async def take_back(live: LiveFeed) -> str:
            return f"retracted {await live.retract(users, [identity])}"

        sys.stdout.write(ask(settings, UserId(publisher), scopes, url, token, take_back) + "\n")
        return
    made = _given(item) if item is not None else _item(title, text, kind, item_id, urgency, expires)

    async def put(live: LiveFeed) -> str:
        done = await live.publish(users, [made])
        reached = ", ".join(f"{user} on {count}" for user, count in done.reachable.items() if count)
        return f"{made.get('id')}: accepted by {done.accepted}; seen at once by {reached or 'nobody'}"

    sys.stdout.write(ask(settings, UserId(publisher), scopes, url, token, put) + "\n")


def _item(
    title: str | None,
    text: str | None,
    kind: str,
    item_id: str | None,
    urgency: float | None,
    expires: str | None,
) -> JsonObject:
    from protocol import times
    from server.cli.token import seconds

    if title is None:
        raise Stop("say what to publish: --title 'Dinner is ready', or --item with the whole item as JSON", 2)
    data: dict[str, str] = {"title": title} if text is None else {"title": title, "text": text}
    made: dict[str, object] = {"id": item_id or secrets.token_hex(4), "type": kind, "data": data}
    if urgency is not None:
        made["signals"] = {"urgency": urgency}
    if expires is not None:
        made["expiresAt"] = times.to_wire(datetime.now(UTC) + timedelta(seconds=seconds(expires)))
    return cast("JsonObject", made)


def _given(text: str) -> JsonObject:
    import orjson

    try:
        made: object = orjson.loads(sys.stdin.read() if text == "-" else text)
    except orjson.JSONDecodeError as error:
        raise Stop(f"--item is not JSON: {error}", 2) from error
    if not isinstance(made, dict):
        raise Stop(
            '--item must be an object, like {"id": "a", "type": "message", "data": {"title": "Hi"}}', 2
        )
    return cast("JsonObject", made)
