"""`source.*`: what a client asks of a source's row, decided, committed, and seen through to the live session.

What is asked is worked out in `configs`, purely. Here it is done under the user's write lock, which the
transaction holds; with `verify`, after the new source has answered once beside the running one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from protocol.errors import (
    CredentialStorageUnavailable,
    InvalidCredentials,
    Issue,
    LimitReached,
    SourceNotFound,
    StorageUnavailableError,
    VerificationFailed,
    VersionConflict,
)
from protocol.feed import SourceError
from protocol.frozen import JsonObject, JsonValue
from protocol.ids import UserId
from server.engine.clock import expire_after
from server.engine.source import SourceFailure, Unauthorized
from server.session.configs import Change, GivenCredentials, Plan, Stored, plan_change
from server.session.manager import SessionManager
from server.session.probe import Probed, Prober
from server.session.rate import UserRate
from server.session.states import OFF, SourceView, source_state
from server.sources.provider import AnyProvider, FeedProvider
from storage import source_configs
from storage import source_state as source_states
from storage.database import Database, WriteTx
from storage.errors import CredentialKeyMissing, StorageUnavailable, Unchanged
from storage.loading import UserRows, load
from storage.source_configs import KEEP, SourceConfigRow

__all__ = ["Preview", "SourceWrites"]

T = TypeVar("T")

_PREVIEW_BYTES = 512 * 1024
"""What a preview answers at most: it is a reply in one frame."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a source would show: items as their wire bytes, and errors."""

    items: tuple[bytes, ...]
    errors: tuple[SourceError, ...]


class SourceWrites:
    """Reading and changing the rows of users' sources. Raises the errors of `protocol.errors` alone, as each
    method says; beside those, every method raises StorageUnavailableError."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        options = manager.setup.options
        self._prober = Prober(manager)
        self._rate = UserRate(manager.setup.clock, burst=options.probe_burst, every_s=options.probe_every_s)

    # Reading

    async def list_states(self, user: UserId, *, schemas: bool = False) -> list[dict[str, JsonValue]]:
        """The SourceState of every registered source; of one without a row: version 0, off.

        From the live session, which is what its sockets are told of; from the rows where there is none.
        """
        session = self._manager.live(user)
        if session is not None:
            return session.source_states(schemas=schemas)
        rows = {row.source_id: row for row in await _stored(source_configs.list_(self._database, user))}
        return [
            source_state(provider, _view(rows.get(provider.source_id)), schemas=schemas)
            for provider in self._manager.setup.registry
        ]

    async def get_state(self, user: UserId, source_id: str, *, schemas: bool = False) -> dict[str, JsonValue]:
        """One source's SourceState. Raises SourceNotFound for one that nobody provides."""
        provider = self._provider(source_id)
        return await self._state(user, provider, schemas=schemas)

    # Changing

    async def patch(
        self,
        user: UserId,
        source_id: str,
        *,
        enabled: bool | None = None,
        config: JsonObject | None = None,
        credentials: JsonObject | None = None,
        if_version: int | None = None,
        verify: bool = False,
    ) -> dict[str, JsonValue]:
        """Changes what is given, `config` by JSON Merge Patch; returns the SourceState once it is committed.

        Nothing given: looks whether the row is there. Raises SourceNotFound (also `noRow`), VersionConflict,
        InvalidSourceConfig, InvalidCredentials, CredentialStorageUnavailable, and with `verify`
        VerificationFailed and RateLimited; then nothing has changed.
        """
        change = Change(enabled, config, credentials, if_version)
        return await self._change(user, source_id, change, verify)

    async def put(
        self,
        user: UserId,
        source_id: str,
        *,
        enabled: bool,
        config: JsonObject | None = None,
        credentials: JsonObject | None = None,
        if_version: int | None = None,
        verify: bool = False,
    ) -> dict[str, JsonValue]:
        """Makes or replaces the row. Stored credentials stay unless new ones are given or a field that says
        where they are sent has changed. Raises as `patch` does, but for `noRow`; and LimitReached for one
        more source than a user may have."""
        change = Change(enabled, config or {}, credentials, if_version, replaces=True)
        return await self._change(user, source_id, change, verify)

    async def authorize(self, user: UserId, source_id: str, credentials: JsonObject) -> dict[str, JsonValue]:
        """Stores credentials for a source that has a row. Raises as `patch` does."""
        return await self._change(user, source_id, Change(credentials=credentials), verify=False)

    async def delete(self, user: UserId, source_id: str) -> None:
        """Erases the row, its credentials, and what the source remembered. No row: that is what was wanted.

        Raises SourceNotFound for a source that nobody provides.
        """
        provider = self._provider(source_id)

        async def erase(tx: WriteTx) -> None:
            await source_states.delete(tx, user, provider.source_id)
            if not await source_configs.delete(tx, user, provider.source_id):
                raise Unchanged

        with suppress(Unchanged):
            await self._write(user, erase)

    async def preview(
        self,
        user: UserId,
        source_id: str,
        *,
        config: JsonObject | None = None,
        credentials: JsonObject | None = None,
    ) -> Preview:
        """What the source would show with these settings over the stored ones. Nothing is stored or swapped.

        Raises SourceNotFound, InvalidSourceConfig, InvalidCredentials and RateLimited; that the source then
        fails is an answer, in `errors`.
        """
        provider = self._provider(source_id)
        self._rate.take(user)
        rows = await self._rows(user)
        row = rows.configs.get(provider.source_id)
        change = Change(config=config or {}, credentials=credentials, replaces=row is None)
        plan = plan_change(provider, row, change)
        try:
            probed = await self._prober.ask(user, provider, plan, rows)
        except SourceFailure as failure:
            return Preview((), (self._error(provider, failure),))
        await probed.aclose()
        errors = () if probed.error is None else (probed.error,)
        return Preview(_fitting([item.encoded for item in probed.items]), errors)

    # One change

    async def _change(
        self, user: UserId, source_id: str, change: Change, verify: bool
    ) -> dict[str, JsonValue]:
        provider = self._provider(source_id)
        if change.is_empty:
            row = await _stored(source_configs.get(self._database, user, provider.source_id))
            plan_change(provider, row, change)
            return await self._state(user, provider)
        if verify:
            row = await self._verified(user, provider, change)
        else:
            await self._check_credentials(user, provider, change)
            row = await self._write(user, self._putting(user, provider, change))
        session = self._manager.live(user)
        if session is not None:
            await session.settled(provider.source_id, row.version)
            view = session.source_view(provider.source_id)
            if view.version >= row.version:
                return source_state(provider, view)
        # No session; or one that could not read its rows again yet, and follows.
        return source_state(provider, _view(row))

    def _putting(
        self, user: UserId, provider: AnyProvider, change: Change
    ) -> Callable[[WriteTx], Awaitable[SourceConfigRow]]:
        """The transaction: read under the lock, work it out, write it. It returns the row."""

        async def put(tx: WriteTx) -> SourceConfigRow:
            row = await source_configs.get(tx, user, provider.source_id)
            return await self._put(tx, user, provider, row, plan_change(provider, row, change))

        return put

    async def _put(
        self, tx: WriteTx, user: UserId, provider: AnyProvider, row: SourceConfigRow | None, plan: Plan
    ) -> SourceConfigRow:
        maximum = self._manager.setup.options.max_sources
        if row is None and len(await source_configs.list_(tx, user)) >= maximum:
            raise LimitReached("sources", maximum)
        match plan.credentials:
            case GivenCredentials(raw=raw):
                sealed = self._seal(user, provider, raw)
            case Stored.KEEP:
                sealed = KEEP
            case Stored.DROP:
                sealed = None
        return await source_configs.put(tx, user, provider.source_id, plan.enabled, plan.config, sealed)

    async def _check_credentials(self, user: UserId, provider: AnyProvider, change: Change) -> None:
        """Where the provider can tell at once that credentials are no good, nothing is stored.

        Asked before the lock is taken: it may take a while, and what it is asked about are the credentials.
        """
        if change.credentials is None or not _tells_at_once(provider):
            return
        self._rate.take(user)
        row = await _stored(source_configs.get(self._database, user, provider.source_id))
        plan = plan_change(provider, row, change)
        assert isinstance(plan.credentials, GivenCredentials)
        self._seal(user, provider, plan.credentials.raw)  # before anybody is sent anything
        setup = self._manager.setup
        try:
            with expire_after(setup.clock, setup.options.probe_timeout_s):
                await self._manager.builder.check_credentials(
                    user, provider, plan.model, plan.credentials.model
                )
        except Unauthorized as refused:
            raise InvalidCredentials(provider.source_id, [Issue((), refused.message)]) from None
        except SourceFailure:
            return  # it cannot tell now: the source's status will

    # Verified

    async def _verified(self, user: UserId, provider: AnyProvider, change: Change) -> SourceConfigRow:
        """Ask first, then write, if nobody has written meanwhile; the source that was asked is swapped in."""
        self._rate.take(user)
        current = 0
        for _ in range(self._manager.setup.options.verify_attempts):
            rows = await self._rows(user)
            row = rows.configs.get(provider.source_id)
            plan = plan_change(provider, row, change)
            if isinstance(plan.credentials, GivenCredentials):
                self._seal(user, provider, plan.credentials.raw)
            try:
                probed = await self._prober.ask(user, provider, plan, rows)
            except SourceFailure as failure:
                raise VerificationFailed(provider.source_id, failure.message) from None
            try:
                return await self._commit(user, provider, row, plan, probed)
            except VersionConflict as moved:
                current = moved.version
            finally:
                await probed.aclose()
        raise VersionConflict(provider.source_id, current)

    async def _commit(
        self,
        user: UserId,
        provider: AnyProvider,
        row: SourceConfigRow | None,
        plan: Plan,
        probed: Probed,
    ) -> SourceConfigRow:
        """Writes the plan and offers the source, if the row is still what the plan was made from; raises
        VersionConflict if it is not."""
        if probed.error is not None:
            raise VerificationFailed(provider.source_id, probed.error.message)
        prepared = self._manager.prepared
        offered: list[int] = []

        async def put(tx: WriteTx) -> SourceConfigRow:
            now = await source_configs.get(tx, user, provider.source_id)
            version = 0 if now is None else now.version
            if version != (0 if row is None else row.version):
                raise VersionConflict(provider.source_id, version)
            prepared.put(user, provider.source_id, tx.seq, probed.source)
            offered.append(tx.seq)
            return await self._put(tx, user, provider, now, plan)

        try:
            return await self._write(user, put)
        finally:
            for version in offered:
                probed.taken = prepared.take(user, provider.source_id, version) is None

    # Parts

    @property
    def _database(self) -> Database:
        return self._manager.setup.database

    def _provider(self, source_id: str) -> AnyProvider:
        provider = self._manager.setup.registry.get(source_id)
        if provider is None:
            raise SourceNotFound(source_id)
        return provider

    async def _state(
        self, user: UserId, provider: AnyProvider, *, schemas: bool = False
    ) -> dict[str, JsonValue]:
        session = self._manager.live(user)
        if session is not None:
            return session.source_state(provider.source_id, schemas=schemas)
        row = await _stored(source_configs.get(self._database, user, provider.source_id))
        return source_state(provider, _view(row), schemas=schemas)

    async def _rows(self, user: UserId) -> UserRows:
        return (await _stored(load(self._database, [user])))[user]

    def _seal(self, user: UserId, provider: AnyProvider, raw: JsonObject) -> bytes:
        try:
            return self._manager.builder.seal_credentials(user, provider, raw)
        except CredentialKeyMissing:
            raise CredentialStorageUnavailable from None

    def _error(self, provider: AnyProvider, failure: SourceFailure) -> SourceError:
        now = self._manager.setup.clock.now()
        return SourceError(provider.source_id, failure.code, failure.message, now)

    async def _write(self, user: UserId, fn: Callable[[WriteTx], Awaitable[T]]) -> T:
        try:
            return await self._manager.write(user, fn)
        except StorageUnavailable as problem:
            raise StorageUnavailableError(problem.outcome) from problem


def _tells_at_once(provider: AnyProvider) -> bool:
    """Whether a provider has a way to say that credentials are no good."""
    own: object = getattr(type(provider), "validate_credentials", None)
    return own is not getattr(FeedProvider, "validate_credentials", None)


async def _stored(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except StorageUnavailable as problem:
        raise StorageUnavailableError(problem.outcome) from problem


def _view(row: SourceConfigRow | None) -> SourceView:
    """A source of a user who has no session here: it starts with the session."""
    if row is None:
        return OFF
    return SourceView(
        enabled=row.enabled,
        version=row.version,
        config=row.config,
        has_credentials=row.credentials is not None,
        status="starting" if row.enabled else "off",
    )


def _fitting(items: list[bytes]) -> tuple[bytes, ...]:
    room = _PREVIEW_BYTES
    for index, item in enumerate(items):
        room -= len(item) + 1
        if room < 0:
            return tuple(items[:index])
    return tuple(items)
