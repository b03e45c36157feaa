"""What `freya doctor` looks at. Each check says how things are in one sentence, and never raises."""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from server.keys import KeysUnusable, credential_ring, token_keys
from server.open_files import most_open_files
from server.options import CertificateUnusable, tls_context
from server.settings import Settings
from server.stores import database_address
from storage.database import Database
from storage.errors import MigrationNeeded, StorageError

__all__ = ["Finding", "Level", "look_everywhere"]

Level: TypeAlias = Literal["ok", "note", "WRONG"]

_MAX_CLOCK_DIFFERENCE_S = 5.0
# Beside its sockets a process holds files of its own: database, Redis, upstreams, libraries.
_OWN_FILES = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    sentence: str


async def look_everywhere(settings: Settings) -> AsyncIterator[Finding]:
    """Everything, in the order in which a start would come across it."""
    for finding in (*_environment(settings), *_keys(settings), *_limits(settings), *_tls(settings)):
        yield finding
    async for finding in _jwks(settings):
        yield finding
    async for finding in _database(settings):
        yield finding
    async for finding in _redis(settings):
        yield finding
    yield _port(settings)


def _environment(settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()} on {sys.platform}")
    strangers = settings.unknown()
    yield from (Finding("note", "settings", sentence) for sentence in strangers)
    if not strangers:
        yield Finding("ok", "settings", "every FREYA_ variable is one that the server reads")


def _keys(settings: Settings) -> Iterator[Finding]:
    try:
        keys = token_keys(settings)
        named = ", ".join(f"{key.kid} ({key.algorithm})" for key in keys) or "those of FREYA_JWKS alone"
        yield Finding("ok", "token keys", named)
    except KeysUnusable as error:
        yield Finding("WRONG", "token keys", _one_line(error))
    try:
        ring = credential_ring(settings)
        if ring.key_ids:
            yield Finding("ok", "key ring", f"{ring.key_ids[0]} encrypts, {len(ring.key_ids)} in all")
        else:
            yield Finding(
                "note",
                "key ring",
                "no key: sources that need credentials can't store any (FREYA_CREDENTIAL_KEYS)",
            )
    except KeysUnusable as error:
        yield Finding("WRONG", "key ring", _one_line(error))


def _limits(settings: Settings) -> Iterator[Finding]:
    allowed = most_open_files()
    wanted = settings.connections.max_connections + _OWN_FILES
    if allowed >= wanted:
        yield Finding("ok", "open files", f"{allowed:,} allowed, {wanted:,} needed at most")
    else:
        yield Finding(
            "note",
            "open files",
            f"{allowed:,} allowed: enough for {max(0, allowed - _OWN_FILES):,} connections, not for "
            f"{settings.connections.max_connections:,}; raise it (ulimit -n) or lower FREYA_MAX_CONNECTIONS",
        )


def _tls(settings: Settings) -> Iterator[Finding]:
    try:
        if tls_context(settings) is not None:
            yield Finding("ok", "certificate", f"{settings.listening.tls_cert} fits its key")
    except CertificateUnusable as error:
        yield Finding("WRONG", "certificate", _one_line(error))


async def _jwks(settings: Settings) -> AsyncIterator[Finding]:
    from time import monotonic

    from server.tokens.jwks import JwksOptions, JwksUnavailable, PublishedKeys

    if settings.keys.jwks is None:
        return
    published = PublishedKeys(JwksOptions(location=settings.keys.jwks), monotonic)
    try:
        await published.read_now()
        yield Finding(
            "ok", "issuer keys", ", ".join(f"{key.kid} ({key.algorithm})" for key in published.keys)
        )
    except JwksUnavailable as error:
        yield Finding("WRONG", "issuer keys", _one_line(error))


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    try:
        async with database_address(settings) as address:
            try:
                async with Database.open(
                    address, pool_size=2, timeout_s=settings.storage.db_timeout_s
                ) as database:
                    yield await _database_clock(database)
            except MigrationNeeded as error:
                todo = (
                    "the server does it at start"
                    if settings.storage.migrate
                    else "run: python -m server migrate"
                )
                yield Finding("note", "database", f"{_one_line(error).split(':')[0]}; {todo}")
    except StorageError as error:
        yield Finding("WRONG", "database", _one_line(error))


async def _database_clock(database: Database) -> Finding:
    row = await database.fetch_one("SELECT current_setting('server_version'), clock_timestamp()")
    assert row is not None
    version, there = str(row[0]), row[1]
    assert isinstance(there, datetime)
    apart_s = abs((datetime.now(UTC) - there).total_seconds())
    if apart_s > _MAX_CLOCK_DIFFERENCE_S:
        return Finding("WRONG", "clock", f"{apart_s:.0f} s away from the database's: set both by NTP")
    return Finding("ok", "database", f"PostgreSQL {version} answers, its schema is ours, its clock agrees")


async def _redis(settings: Settings) -> AsyncIterator[Finding]:
    from server.replication.probe import BusUnreachable, ask_redis

    if settings.storage.redis_url is None:
        yield Finding("ok", "redis", "none: this is the only replica")
        return
    try:
        facts = await ask_redis(settings.storage.redis_url.get_secret_value())
        yield Finding("ok", "redis", f"Redis {facts.version} answers in {facts.seconds * 1000:.1f} ms")
    except BusUnreachable as error:
        yield Finding("WRONG", "redis", f"{_one_line(error)}; is REDIS_URL right?")


def _port(settings: Settings) -> Finding:
    host, port = settings.listening.host, settings.listening.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(
                "note", "port", f"{host}:{port} is in use or not ours ({error.strerror}): a server runs?"
            )
    return Finding("ok", "port", f"{host}:{port} is free")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
