"""`provider.*`: the operator's settings of the sources' providers, in force without a restart."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from pydantic import ValidationError

from protocol.errors import (
    CredentialStorageUnavailable,
    InvalidParams,
    Issue,
    SourceNotFound,
    StorageUnavailableError,
)
from protocol.frozen import JsonObject, JsonValue
from protocol.ids import SourceId
from server.session.configs import issues_of
from server.session.manager import SessionManager
from server.session.states import schema_of
from server.sources.provider import AnyProvider
from storage import providers
from storage.database import WriteTx
from storage.errors import CredentialKeyMissing, StorageUnavailable

__all__ = ["ProviderWrites", "Replaced"]


@dataclass(frozen=True, slots=True)
class Replaced:
    """On this replica: users whose source runs with the new settings, and those whose source goes on as it
    was (it is tried again)."""

    refreshed: int
    kept: int


class ProviderWrites:
    """What an operator does about providers. Who is one is decided before."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    def list_states(self) -> list[dict[str, JsonValue]]:
        """The wire's state of every provider: which settings are in force, never what they are."""
        return [self._state(provider) for provider in self._manager.setup.registry]

    async def replace(self, source_id: str, settings: JsonObject) -> Replaced:
        """Stores settings, encrypted, and brings them to every session here; the other replicas follow.

        Returns when every live session has been tried; cancelled after COMMIT, that goes on. Raises
        SourceNotFound, InvalidParams (paths below `settings`), CredentialStorageUnavailable,
        StorageUnavailableError; then nothing has changed.
        """
        provider = self._manager.setup.registry.get(source_id)
        if provider is None:
            raise SourceNotFound(source_id)
        sealed = self._sealed(provider, settings)

        async def put(tx: WriteTx) -> None:
            await providers.put(tx, provider.source_id, sealed)

        try:
            await self._manager.write_global(put)
        except StorageUnavailable as problem:
            raise StorageUnavailableError(problem.outcome) from problem
        rebuild = self._manager.rebuild_of(provider.source_id)
        if rebuild is None:
            return Replaced(0, 0)  # committed, and the store has gone away since: it follows
        await rebuild.done.wait()
        return Replaced(rebuild.refreshed, rebuild.kept)

    def _sealed(self, provider: AnyProvider, settings: JsonObject) -> bytes:
        if provider.settings_schema is None:
            raise InvalidParams([Issue(("settings",), "this provider takes no settings")])
        try:
            provider.settings_schema.model_validate_json(orjson.dumps(settings))
        except ValidationError as error:
            issues = issues_of(error, settings)
            raise InvalidParams([Issue(("settings", *each.path), each.message) for each in issues]) from None
        try:
            return self._manager.operator.seal(SourceId(provider.source_id), settings)
        except CredentialKeyMissing:
            raise CredentialStorageUnavailable from None

    def _state(self, provider: AnyProvider) -> dict[str, JsonValue]:
        operator = self._manager.operator
        in_force = operator.in_force(provider.source_id)
        state: dict[str, JsonValue] = {
            "sourceId": provider.source_id,
            "name": provider.name,
            "settings": "stored" if in_force.version else "none",
            "version": in_force.version,
        }
        if not in_force.version and operator.from_environment(provider.source_id):
            state["settings"] = "environment"
        if in_force.problem is not None:
            state["problem"] = in_force.problem
        if provider.settings_schema is not None:
            state["settingsSchema"] = schema_of(provider.settings_schema)
        return state
