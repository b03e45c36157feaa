"""The wire contract as an AsyncAPI 3 document, and each method's JSON Schema, drawn from
`protocol.messages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, cast

import orjson

from protocol.errors import CLOSE_CODES, ERRORS
from protocol.frozen import JsonObject, JsonValue
from protocol.messages import METHODS, NOTIFICATIONS, Method, Notice, WireModel
from protocol.messages.schemas import Direction, method_schema, model_schema, schema_digest
from protocol.transport import PATH, PROTOCOL_VERSION, SUBPROTOCOL
from server.http.files import StaticFile

__all__ = ["document", "schema_files"]

_Object: TypeAlias = dict[str, JsonValue]

_CHANNEL = "#/channels/feed"


def schema_files() -> Mapping[str, StaticFile]:
    """`/asyncapi.json` and `/schemas/METHOD.json`, by path."""
    made = {
        "/asyncapi.json": document(),
        **{f"/schemas/{name}.json": method_schema(name) for name in METHODS},
    }
    return {path: StaticFile.of(path, orjson.dumps(value)) for path, value in made.items()}


def document() -> JsonObject:
    """The whole contract; operations are named from the server's side, as AsyncAPI 3 asks."""
    parts = _Parts()
    for method in METHODS.values():
        parts.add_method(method)
    for notice in NOTIFICATIONS.values():
        parts.add_notice(notice)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Freya Push",
            "version": f"{PROTOCOL_VERSION}.0.0",
            "description": (
                f"JSON-RPC 2.0 over WebSocket, one object a text frame, subprotocol `{SUBPROTOCOL}`. "
                f"Digest of the schemas: {schema_digest()}."
            ),
        },
        "defaultContentType": "application/json",
        "servers": {
            "here": {
                "host": "{host}",
                "protocol": "ws",
                "variables": {
                    "host": {"default": "127.0.0.1:8080", "description": "HOST:PORT; wss with TLS"}
                },
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {
            "feed": {
                "address": PATH,
                "description": "Everything goes over one socket.",
                "messages": {name: _ref("components/messages", name) for name in parts.messages},
                "bindings": {"ws": {"method": "GET", "query": _QUERY}},
            }
        },
        "operations": parts.operations,
        "components": {
            "messages": parts.messages,
            "schemas": parts.schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Or, where no header can be set, as a second subprotocol `bearer.TOKEN`.",
                }
            },
        },
        "x-errors": [{"code": code, "name": kind.title} for code, kind in ERRORS.items()],
        "x-close-codes": [
            {"code": int(kind.code), "means": kind.means, "clientDoes": kind.client_does}
            for kind in CLOSE_CODES.values()
        ],
    }


class _Parts:
    """Messages, operations and schemas, as they come together."""

    def __init__(self) -> None:
        self.messages: _Object = {}
        self.operations: _Object = {}
        self.schemas: _Object = {}

    def add_method(self, method: Method) -> None:
        """A request with its result, or a notification to the server."""
        name = method.name
        call: _Object = {
            "method": {"const": name},
            "params": self._schema(method.params, "to_server"),
        }
        if not method.notification:
            call["id"] = {"type": ["string", "integer"]}
        request = f"{name}.request"
        self.messages[request] = {
            "name": name,
            "summary": method.doc,
            "payload": _envelope(call, required=["method"]),
            "x-method": name,
            "x-scope": method.scope,
        }
        operation: _Object = {
            "action": "receive",
            "channel": {"$ref": _CHANNEL},
            "summary": method.doc,
            "messages": [_ref("channels/feed/messages", request)],
        }
        if not method.notification:
            result: _Object = {
                "id": {"type": ["string", "integer"]},
                "result": self._schema(method.result, "to_client"),
            }
            reply = f"{name}.result"
            self.messages[reply] = {
                "name": f"result of {name}",
                "payload": _envelope(result, required=["id", "result"]),
            }
            operation["reply"] = {
                "channel": {"$ref": _CHANNEL},
                "messages": [_ref("channels/feed/messages", reply)],
            }
        self.operations[name] = operation

    def add_notice(self, notice: Notice) -> None:
        """A notification to the client."""
        members: _Object = {
            "method": {"const": notice.name},
            "params": self._schema(notice.params, "to_client"),
        }
        self.messages[notice.name] = {
            "name": notice.name,
            "summary": notice.doc,
            "payload": _envelope(members, required=["method", "params"]),
        }
        self.operations[f"push.{notice.name}"] = {
            "action": "send",
            "channel": {"$ref": _CHANNEL},
            "summary": notice.doc,
            "messages": [_ref("channels/feed/messages", notice.name)],
        }

    def _schema(self, model: type[WireModel], direction: Direction) -> JsonValue:
        """A reference to the model's schema; what it is made of is put beside it."""
        # A model may look different on the way in (nulls, defaults): each direction has its own.
        end = ".in" if direction == "to_server" else ""
        schema = dict(model_schema(model, direction, f"#/components/schemas/{{model}}{end}"))
        inner = cast("JsonObject", schema.pop("$defs", {}))
        for name, part in {**inner, model.__name__: schema}.items():
            self.schemas[name + end] = part
        return _ref("components/schemas", model.__name__ + end)


def _ref(place: str, name: str) -> JsonObject:
    return {"$ref": f"#/{place}/{name}"}


def _envelope(members: _Object, *, required: list[str]) -> JsonObject:
    return {
        "type": "object",
        "required": ["jsonrpc", *required],
        "properties": {"jsonrpc": {"const": "2.0"}, **members},
    }


_QUERY: JsonObject = {
    "type": "object",
    "properties": {
        "since": {"type": "string", "description": "Cursor to resume from."},
        "own": {"enum": ["0", "1"], "description": "0: without one's own feed."},
        "delta": {"enum": ["0", "1"], "description": "0: snapshots only."},
        "context": {"enum": ["0", "1"], "description": "1: with context."},
        "settings": {"enum": ["0", "1"], "description": "0: without source.changed."},
        "minIntervalMs": {"type": "integer", "minimum": 0, "maximum": 60_000},
        "heartbeatMs": {"type": "integer", "minimum": 5_000, "maximum": 300_000},
        "beat": {"enum": ["0", "1"], "description": "1: connection.beat with each heartbeat."},
        "deflate": {"enum": ["0", "1"], "description": "0: no compression."},
        "debug": {"enum": ["0", "1"], "description": "1: cause in deltas."},
        "client": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$", "description": "One per install."},
    },
}
