"""From the bytes of a frame to a JSON-RPC 2.0 message, whatever the bytes are.

`parse` answers with a `Request`, a `Notification` or a `Response`, or raises a `FrameError` that carries
the error to reply with. The other direction is `protocol.encoding`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import orjson

from protocol.errors import InvalidParams, InvalidRequest, Issue, ParseError, RpcError
from protocol.frozen import MAX_DEPTH, JsonObject, JsonValue, NotJson, freeze

__all__ = [
    "MAX_ID",
    "MAX_ID_BYTES",
    "FrameError",
    "Message",
    "Notification",
    "Request",
    "RequestId",
    "Response",
    "parse",
]

RequestId: TypeAlias = "str | int"

# Long enough for any scheme of ids, short enough to be echoed and logged.
MAX_ID_BYTES: Final = 128
# Beyond it a JavaScript client cannot tell an id from its neighbour.
MAX_ID: Final = 2**53 - 1

_ID_RULE: Final = f"`id` is a string of at most {MAX_ID_BYTES} bytes or an integer within +-(2^53 - 1)"
_NO_PARAMS: Final[JsonObject] = {}
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_INT_CHARACTERS: Final = len(str(_INT_MIN))
# The parser reads an integer beyond 64 bits as a float, silently: so many digits need a second look.
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")


@dataclass(frozen=True, slots=True)
class Request:
    """What wants an answer under its `id`."""

    id: RequestId
    method: str
    params: JsonObject


@dataclass(frozen=True, slots=True)
class Notification:
    """What is never answered."""

    method: str
    params: JsonObject


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request of ours; `error` is the wire's error object where it failed."""

    id: RequestId | None
    result: JsonValue
    error: JsonObject | None = None


Message: TypeAlias = "Request | Notification | Response"


class FrameError(Exception):
    """A frame that is no message. `error` is to be replied under `id` (null for None), unless the sender
    asked for no answer: `silent`."""

    def __init__(self, error: RpcError, id: RequestId | None = None, *, silent: bool = False) -> None:  # noqa: A002 -- JSON-RPC's own word for it
        super().__init__(str(error))
        self.error = error
        self.id = id
        self.silent = silent


def parse(frame: bytes | str) -> Message:
    """The message in a text frame. Raises FrameError, and nothing else, for any bytes whatever.

    Params are checked as far as every method needs it: an object; no U+0000, no integers beyond 64
    bits, nothing nested deeper than `MAX_DEPTH`. What is a response is not checked any further.
    """
    try:
        data = frame if isinstance(frame, bytes) else frame.encode()
        obj = cast("JsonValue", orjson.loads(data))
    except ValueError:  # orjson.JSONDecodeError and UnicodeEncodeError are both one
        raise FrameError(ParseError()) from None
    if isinstance(obj, list):
        raise FrameError(InvalidRequest(message="a batch: send each request in a frame of its own"))
    if not isinstance(obj, dict):
        raise FrameError(InvalidRequest(message="not a JSON object"))
    if "method" not in obj and ("result" in obj or "error" in obj):
        return _response(obj)
    return _request(obj, data)


def _request(obj: JsonObject, data: bytes) -> Request | Notification:
    request_id = _id(obj["id"]) if "id" in obj else None
    method = obj.get("method")
    if obj.get("jsonrpc") != "2.0":
        raise FrameError(InvalidRequest(message='`jsonrpc` is not "2.0"'), request_id)
    if not isinstance(method, str):
        raise FrameError(InvalidRequest(message="`method` is not a string"), request_id)
    params = obj.get("params", _NO_PARAMS)
    if not isinstance(params, dict):
        raise _bad_params(Issue((), "params are an object"), request_id)
    if _is_suspicious(data):
        try:
            params = _checked(params, data)
        except NotJson as wrong:
            raise _bad_params(Issue(wrong.path, wrong.reason), request_id) from None
    return Notification(method, params) if request_id is None else Request(request_id, method, params)


def _bad_params(issue: Issue, request_id: RequestId | None) -> FrameError:
    return FrameError(InvalidParams([issue]), request_id, silent=request_id is None)


def _response(obj: JsonObject) -> Response:
    request_id, error = obj.get("id"), obj.get("error")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int):
        request_id = None
    if error is None:
        return Response(request_id, obj.get("result"))
    return Response(request_id, None, error if isinstance(error, dict) else {})


def _id(value: JsonValue) -> RequestId:
    if isinstance(value, str):
        if len(value.encode()) <= MAX_ID_BYTES and "\0" not in value:
            return value
    elif isinstance(value, int) and not isinstance(value, bool) and -MAX_ID <= value <= MAX_ID:
        return value
    raise FrameError(InvalidRequest(message=_ID_RULE))


def _is_suspicious(data: bytes) -> bool:
    """Whether the frame could hold what params must not: a quick look that is sometimes wrong with yes."""
    return (
        b"\\u0000" in data
        or data.count(b"{") + data.count(b"[") > MAX_DEPTH
        or _LONG_NUMBER.search(data) is not None
    )


def _checked(params: JsonObject, data: bytes) -> JsonObject:
    """The params, frozen on the way. Raises NotJson for what must not be in them."""
    frozen = freeze(params)
    if _LONG_NUMBER.search(data) is not None:
        try:
            json.loads(data, parse_int=_bounded_int)
        except RecursionError:
            raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from None
    return frozen


def _bounded_int(digits: str) -> int:
    # More characters than the longest has would only be slow to read.
    if len(digits) > _INT_CHARACTERS or not _INT_MIN <= (value := int(digits)) <= _INT_MAX:
        raise NotJson("an integer beyond 64 bits")
    return value
