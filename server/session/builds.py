"""From a stored row to a source: opened, validated, and handed to its provider, which may do anything.

Whatever goes wrong comes out as a `SourceFailure` with a text that is safe to show.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import uuid4

import orjson
import structlog
from pydantic import BaseModel, ValidationError

from protocol.frozen import JsonValue
from protocol.ids import UserId
from server.engine.clock import Clock, expire_after
from server.engine.source import ConfigProblem, FeedSource, SourceFailure, Unauthorized
from server.engine.tasks import is_cancellation, is_fatal
from server.sources.provider import AnyProvider
from server.sources.services import Services
from server.tracing import span
from storage.credentials import KeyRing
from storage.errors import CredentialKeyMissing, CredentialsUnreadable
from storage.source_configs import SourceConfigRow

__all__ = ["SourceBuilder", "close_source"]

T = TypeVar("T")

# What a source may take to let go. Longer would hold up a drain; what is still open then is its own loss.
_CLOSE_TIMEOUT_S = 5.0

_log = structlog.stdlib.get_logger(__name__)


class SourceBuilder:
    """Builds the sources of every user. Holds no user itself."""

    def __init__(self, *, keys: KeyRing, services: Services) -> None:
        self._keys = keys
        self._services = services
        # Most rows have no config of their own: those share one instance, where it cannot be changed.
        self._empty: dict[str, BaseModel] = {}

    async def from_row(self, user: UserId, provider: AnyProvider, row: SourceConfigRow) -> FeedSource:
        """The source of a stored row. Raises SourceFailure."""
        with span("build", {"freya.source": provider.source_id}):
            credentials = self.open_credentials(user, provider, row.credentials)
            return await self.build(user, provider, self._config(provider, row), credentials)

    async def build(
        self,
        user: UserId,
        provider: AnyProvider,
        config: BaseModel,
        credentials: BaseModel | None,
    ) -> FeedSource:
        """Asks the provider. Raises SourceFailure, also if it answers another's source. The patience is the
        caller's."""
        source = await self._guarded(
            provider, lambda: provider.source_for_user(user, config, credentials, self._services)
        )
        if not isinstance(source, FeedSource):  # pyright: ignore[reportUnnecessaryIsInstance] -- a plugin made it
            _log.error("provider_made_no_source", source=provider.source_id)
            raise SourceFailure("its provider made no source")
        if source.id == provider.source_id:
            return source
        _log.error("provider_foreign_source", source=provider.source_id)
        await close_source(source, self._services.clock)
        raise SourceFailure("its provider made a source of another name")

    async def check_credentials(
        self, user: UserId, provider: AnyProvider, config: BaseModel, credentials: BaseModel
    ) -> None:
        """Asks the provider whether it can tell at once that they are no good. Raises SourceFailure. The
        patience is the caller's."""
        await self._guarded(
            provider, lambda: provider.validate_credentials(user, config, credentials, self._services)
        )

    def open_credentials(self, user: UserId, provider: AnyProvider, sealed: bytes | None) -> BaseModel | None:
        """Decrypts stored credentials. Raises Unauthorized where they cannot be read: the user must give them
        again, and the row stays as it is, since another key may still open it."""
        if sealed is None or provider.credentials_schema is None:
            return None
        try:
            opened = self._keys.decrypt(user, provider.source_id, sealed)
            return provider.credentials_schema.model_validate_json(orjson.dumps(opened))
        except (CredentialsUnreadable, CredentialKeyMissing, ValidationError):
            raise Unauthorized("credentials can't be read; connect again") from None

    def seal_credentials(self, user: UserId, provider: AnyProvider, raw: JsonValue) -> bytes:
        """Encrypts what is to be stored. Raises CredentialKeyMissing."""
        return self._keys.encrypt(user, provider.source_id, raw)

    def _config(self, provider: AnyProvider, row: SourceConfigRow) -> BaseModel:
        known = None if row.config else self._empty.get(provider.source_id)
        if known is not None:
            return known
        try:
            config = provider.config_schema.model_validate_json(orjson.dumps(row.config))
        except ValidationError:
            # Only a row of another release gets here: what is written is validated before.
            raise ConfigProblem("its settings no longer fit; set it up again") from None
        if not row.config and config.model_config.get("frozen"):
            self._empty[provider.source_id] = config
        return config

    async def _guarded(self, provider: AnyProvider, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except SourceFailure:
            raise
        except BaseException as error:  # foreign code: whatever it raises is this source's failure alone
            if is_cancellation(error) or is_fatal(error):
                raise
            error_id = uuid4().hex
            _log.exception("provider_failed", source=provider.source_id, error_id=error_id)
            raise SourceFailure(f"it could not be started (error {error_id[:8]})") from error


async def close_source(source: FeedSource, clock: Clock) -> None:
    """Closes a source that no engine holds, cancelled or not. One that raises or hangs is logged and left."""
    try:
        with expire_after(clock, _CLOSE_TIMEOUT_S) as scope:
            scope.shield = True
            await source.aclose()
        if scope.cancelled_caught:
            _log.warning("source_close_hangs", source=source.id)
    except BaseException as raised:
        if is_cancellation(raised) or is_fatal(raised):
            raise
        # Nothing depends on it any more, and there is nobody left to tell.
        _log.exception("source_close_failed", source=source.id)
