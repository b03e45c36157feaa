"""The log: one event a line; JSON for machines, coloured columns where a person looks on.

Names of events are snake_case; what an event is about goes into its fields. Nothing secret gets through:
fields that carry credentials by their name are blanked, and what looks like a token or a password in an
address is taken out of every text, tracebacks included. Users appear as `user_hash(user)`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LogFormat", "LogLevel", "debugs", "redact", "set_up", "user_hash"]

LogFormat = Literal["auto", "json", "pretty"]
LogLevel = Literal["debug", "info", "warning", "error"]

_BLANK = "[redacted]"

# By the last word of a field's name: `tokens_in` counts, `key_id` names, `api_key` and `accessToken` open
# doors.
_SECRET_NAME = re.compile(
    r"(authorization|bearer|cookie|credential|dsn|key|passphrase|password|pem|secret|token)s?$", re.IGNORECASE
)
_TOKEN = re.compile(r"\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*")
_URL_PASSWORD = re.compile(r"(?<=://)[^/\s@'\"]*:[^/\s@'\"]*(?=@)")
_BEARER = re.compile(r"(?i)\b(bearer[ .])[A-Za-z0-9._~+/=-]{8,}")

_salt = b""
_debugs = True


def user_hash(user: str) -> str:
    """Twelve hex digits that stand for a user in the log: the same on every replica that has the same
    salt.
    """
    return blake2b(user.encode("utf-8", "surrogatepass"), digest_size=6, key=_salt).hexdigest()


def debugs() -> bool:
    """Whether events of the level `debug` are written. Where there are thousands a second, what they would
    say need not even be made."""
    return _debugs


def redact(text: str) -> str:
    """The text without what looks like a token, or like a password inside an address."""
    return _BEARER.sub(rf"\1{_BLANK}", _TOKEN.sub(_BLANK, _URL_PASSWORD.sub(_BLANK, text)))


def set_up(
    level: LogLevel = "info", style: LogFormat = "auto", *, salt: str = "", stream: TextIO | None = None
) -> None:
    """Sends structlog's events, and what libraries log through `logging`, to `stream` (standard error).

    Called once, before the first event; calling it again replaces the earlier set-up. `auto` is pretty on a
    terminal. `salt` (at most 64 bytes count) makes user hashes of this deployment differ from anybody else's.
    """
    global _salt, _debugs
    _salt = salt.encode()[:64]
    _debugs = level == "debug"
    out = sys.stderr if stream is None else stream
    pretty = style == "pretty" or (style == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    structlog.configure(
        processors=[*shared, _renderer(pretty, out)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(pretty, out)],
        )
    )
    # Libraries speak only when something is wrong: what they find worth an "info" is our own business.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _renderer(pretty: bool, out: TextIO) -> Processor:
    if pretty:
        return structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return _json_line


def _json_line(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
    # `event` and `at` first: lines are read by people too, when it matters.
    head = {key: event.pop(key) for key in ("at", "level", "event") if key in event}
    line = {**head, **event}
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, a number beyond 64 bits: slower, but nothing is lost
        return json.dumps(line, default=str)


def _redact_event(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        event[key] = _redact_field(key, value)
    return event


def _redact_field(name: str, value: object) -> object:
    if _SECRET_NAME.search(name):
        return _BLANK
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return {str(key): _redact_field(str(key), inner) for key, inner in fields.items()}
    if isinstance(value, list | tuple):
        return [_redact_field(name, inner) for inner in cast("Sequence[object]", value)]
    return value
