"""How a method is answered: the seam between the dispatcher and the handlers in `methods`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import orjson

from protocol.frozen import JsonObject
from protocol.ids import UserId
from protocol.messages import METHODS, Method, Params, WireModel
from server.push.auth import authorize
from server.tokens.claims import Claims

if TYPE_CHECKING:
    from server.push.connection import Connection

__all__ = [
    "Answer",
    "AtOnce",
    "Call",
    "Endpoint",
    "InTime",
    "Later",
    "Result",
    "at_once",
    "encode",
    "in_time",
]

P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: whose connection, and by which token it was allowed."""

    connection: Connection
    claims: Claims

    @property
    def user(self) -> UserId:
        """Who asks."""
        return self.claims.user


@dataclass(frozen=True, slots=True)
class Later:
    """A result that is made when it is written, so that it holds what is true then."""

    make: Callable[[], bytes]


Result: TypeAlias = "WireModel | Mapping[str, object] | bytes | Later"
Answer: TypeAlias = Callable[[], Result]
AtOnce: TypeAlias = Callable[[Call, JsonObject], Result]
InTime: TypeAlias = Callable[[Call, JsonObject], Callable[[], Awaitable[Result]]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method with its handler. Both kinds raise RpcError for a request that may not or cannot be done.

    `at_once` answers without waiting; `in_time` checks at once, and returns what may wait. One that `acts`
    does more than write rows of ours: once begun it goes on to its end.
    """

    method: Method
    at_once: AtOnce | None = None
    in_time: InTime | None = None
    acts: bool = False


def at_once(name: str, params: type[P], answer: Callable[[Call, P], Result]) -> Endpoint:
    """A method that is answered without waiting for anything."""
    method = _method(name, params)

    def run(call: Call, raw: JsonObject) -> Result:
        return answer(call, _admitted(method, params, call, raw))

    return Endpoint(method, at_once=run)


def in_time(
    name: str, params: type[P], answer: Callable[[Call, P], Awaitable[Result]], *, acts: bool = False
) -> Endpoint:
    """A method whose answer may have to be waited for. `acts`: see `Endpoint`."""
    method = _method(name, params)

    def prepare(call: Call, raw: JsonObject) -> Callable[[], Awaitable[Result]]:
        given = _admitted(method, params, call, raw)
        return lambda: answer(call, given)

    return Endpoint(method, in_time=prepare, acts=acts)


def encode(result: Result) -> bytes:
    """A result's bytes."""
    match result:
        case bytes():
            return result
        case Later():
            return result.make()
        case WireModel():
            return result.encode()
        case _:
            return orjson.dumps(result)


def _method(name: str, params: type[Params]) -> Method:
    method = METHODS[name]
    assert method.params is params, f"{name} takes {method.params.__name__}"
    return method


def _admitted(method: Method, params: type[P], call: Call, raw: JsonObject) -> P:
    """The one place where scopes are asked: first for the method, then for whom the params name."""
    authorize(method, None, call.claims)
    given = params.read(raw)
    authorize(method, given, call.claims)
    return given
