"""What belongs to no user, held in memory: from when on tokens are refused, and the providers' settings.

Both are rows under one number, the global seq, as a user's rows are under the user's. They are read again
whenever that number has changed, in one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

import orjson
import structlog
from anyio import Lock
from pydantic import BaseModel, ValidationError

from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from server.engine.tasks import is_fatal
from server.sources.provider import AnyProvider
from server.sources.registry import ProviderRegistry
from storage import providers, revocations
from storage.credentials import KeyRing
from storage.database import Database
from storage.errors import CredentialKeyMissing, CredentialsUnreadable

__all__ = ["OperatorRows", "RevocationWatcher", "SettingsInForce"]

RevocationWatcher: TypeAlias = Callable[[UserId, datetime], int]
"""Told that tokens of a user issued before a time are refused; returns how many sockets it closed."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SettingsInForce:
    """Which settings a provider works with. `version` 0: not the stored ones, there are none or they do not
    open; `problem` says which."""

    version: int
    problem: str | None = None


class _Revoked(NamedTuple):
    before: datetime
    closed: int


class OperatorRows:
    """The rows of nobody, as they were at `seq`."""

    def __init__(
        self,
        *,
        database: Database,
        keys: KeyRing,
        registry: ProviderRegistry,
        environment: Mapping[SourceId, BaseModel] | None = None,
    ) -> None:
        """`environment`: settings that hold where none are stored."""
        self.seq = -1
        self._database = database
        self._keys = keys
        self._registry = registry
        self._environment = environment or {}
        self._revoked: dict[UserId, _Revoked] = {}
        self._in_force: dict[SourceId, SettingsInForce] = {}
        self._versions: dict[SourceId, int] = {}
        self._watchers: list[RevocationWatcher] = []
        self._one_at_a_time = Lock()

    def revoked(self, user: UserId, issued_at: datetime) -> bool:
        """Whether a token of this user, issued then, is to be refused."""
        known = self._revoked.get(user)
        return known is not None and issued_at < known.before

    def watch_revocations(self, watcher: RevocationWatcher) -> None:
        """Has `watcher` called for every revocation new to this process. It must not wait nor raise."""
        self._watchers.append(watcher)

    def settings_version(self, source_id: SourceId) -> int:
        """Names the settings in force of a provider; another number: sources must be built anew."""
        return self._versions.get(source_id, 0)

    def in_force(self, source_id: SourceId) -> SettingsInForce:
        """Which settings a provider works with."""
        return self._in_force.get(source_id, SettingsInForce(0))

    def from_environment(self, source_id: SourceId) -> bool:
        """Whether there are settings for it in the environment."""
        return source_id in self._environment

    def seal(self, source_id: SourceId, settings: JsonValue) -> bytes:
        """Encrypts settings for storing. Raises CredentialKeyMissing."""
        return self._keys.encrypt_settings(source_id, settings)

    async def read(self) -> tuple[SourceId, ...]:
        """Reads what has changed, if anything has; returns the providers with other settings than before.

        Watchers are told of new revocations. Raises StorageUnavailable; then all is as it was.
        """
        async with self._one_at_a_time:
            # The number first: rows that are newer than it are read once more, never missed.
            known, seq = self.seq, await self._database.global_seq()
            if known == seq:
                return ()
            async with self._database.read() as tx:
                # A database that lost its last writes starts over with a smaller number: then all is read.
                revoked = await revocations.changed_since(tx, known if known <= seq else 0)
                settings = await providers.list_(tx)
            if known > seq:
                self._revoked.clear()
            self.seq = seq
            for row in revoked:
                self._revoke(row)
            return self._configure(settings)

    def closed_for(self, user: UserId) -> int:
        """How many sockets the user's last revocation closed here."""
        known = self._revoked.get(user)
        return 0 if known is None else known.closed

    def _revoke(self, row: revocations.RevocationRow) -> None:
        known = self._revoked.get(row.user)
        if known is None or known.before != row.issued_before:
            closed = sum([watcher(row.user, row.issued_before) for watcher in self._watchers])
            self._revoked[row.user] = _Revoked(row.issued_before, closed)

    def _configure(self, rows: list[providers.ProviderRow]) -> tuple[SourceId, ...]:
        stored = {row.source_id: row for row in rows}
        changed: list[SourceId] = []
        for provider in self._registry:
            row = stored.get(provider.source_id)
            version = 0 if row is None else row.version
            if self._versions.get(provider.source_id) != version:
                self._versions[provider.source_id] = version
                self._configure_one(provider, row)
                changed.append(provider.source_id)
        return tuple(changed)

    def _configure_one(self, provider: AnyProvider, row: providers.ProviderRow | None) -> None:
        settings = self._environment.get(provider.source_id)
        in_force = SettingsInForce(0)
        if row is not None and provider.settings_schema is not None:
            try:
                opened = self._keys.decrypt_settings(provider.source_id, row.settings)
                settings = provider.settings_schema.model_validate_json(orjson.dumps(opened))
                in_force = SettingsInForce(row.version)
            except (CredentialsUnreadable, CredentialKeyMissing):
                in_force = SettingsInForce(0, "the stored settings can't be read")
            except ValidationError:
                in_force = SettingsInForce(0, "the stored settings no longer fit")
        self._in_force[provider.source_id] = in_force
        try:
            if provider.settings_schema is not None:
                provider.configure(settings)
        except BaseException as raised:
            if is_fatal(raised):
                raise
            # The provider's own fault; its sources go on with what it had.
            _log.exception("provider_configure_failed", source=provider.source_id)
