"""`stats.*`: live figures for operators."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from protocol.messages.base import Json, Method, NoParams, Nothing, Notice, Params, Time, WireModel

__all__ = ["METHODS", "NOTIFICATIONS", "StatsSubscribeParams", "StatsUpdate"]


class StatsSubscribeParams(Params):
    """How often."""

    every_ms: Annotated[int, Field(ge=250, le=60_000)] = 1_000


class StatsUpdate(WireModel):
    """Figures of this moment, over all replicas that answered. Which there are depends on the server."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Json]  # pyright: ignore[reportIncompatibleVariableOverride] -- any JSON, in pydantic's own way to say so

    at: Time
    replicas: int
    connections: int
    sessions: int


METHODS = (
    Method(
        "stats.subscribe", StatsSubscribeParams, Nothing, "Sends `stats.update` from now on.", scope="admin"
    ),
    Method("stats.unsubscribe", NoParams, Nothing, "Sends no more of them.", scope="admin"),
)

NOTIFICATIONS = (
    Notice("stats.update", StatsUpdate, "Live figures; left out while the socket is full.", scope="admin"),
)
