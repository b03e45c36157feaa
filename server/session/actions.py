"""`action.execute`: what a source is asked to do, its input checked, its answer kept where it had a key."""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

import orjson
import structlog
from anyio import CancelScope
from pydantic import BaseModel, ValidationError

from protocol.errors import (
    ActionFailed,
    InvalidParams,
    Issue,
    LimitReached,
    RpcError,
    SourceNotFound,
    SourceNotRunning,
    StorageUnavailableError,
    TimedOut,
    UnknownAction,
)
from protocol.frozen import JsonValue, freeze
from protocol.ids import ReplicaId, SourceId, UserId
from server.engine.clock import expire_after
from server.engine.source import ActionSpec, FeedSource, SourceFailure
from server.engine.tasks import is_cancellation, is_fatal
from server.session.configs import issues_of
from server.session.errors import SessionUnavailable
from server.session.manager import SessionManager
from server.session.states import actions_of
from storage import action_results
from storage.errors import LimitReached as StoredLimitReached
from storage.errors import NoRow, StorageUnavailable

__all__ = ["Actions"]

# An answer is a reply in one frame.
_MAX_ANSWER_BYTES = 256 * 1024
# A claim outlives the action by a little: then whoever repeats may try again, as after a crash.
_CLAIM_SLACK_S = 5.0

_log = structlog.stdlib.get_logger(__name__)


class Actions:
    """Executes actions of the users' own sources. `replica` names this process in claims on keys."""

    def __init__(self, manager: SessionManager, replica: ReplicaId) -> None:
        self._manager = manager
        # Claims are held by a request, not by a replica: two with one key on one replica are two.
        self._replica = replica

    async def execute(
        self, user: UserId, source_id: str, action_id: str, params: JsonValue = None, key: str | None = None
    ) -> JsonValue:
        """Does it and returns the source's answer; with a `key` that was used before, the first answer.

        Raises SourceNotFound, SourceNotRunning, UnknownAction, InvalidParams (the input, paths below
        `params`), ActionFailed, TimedOut, StorageUnavailableError. From the moment the source is asked, a
        cancellation waits for it: a key must not end up without its answer.
        """
        source, spec = await self._find(user, source_id, action_id)
        given = _validated(spec, params)
        if key is None:
            return await self._do(source, spec, given)
        with CancelScope(shield=True):
            return await self._once(user, key, source, spec, given)
        raise AssertionError("nobody cancels this scope")

    async def _find(self, user: UserId, source_id: str, action_id: str) -> tuple[FeedSource, ActionSpec]:
        if source_id not in self._manager.setup.registry:
            raise SourceNotFound(source_id)
        try:
            session = await self._manager.get_or_create(user)
        except SessionUnavailable as problem:
            raise StorageUnavailableError("none") from problem
        view = session.source_view(SourceId(source_id))
        if view.source is None or view.status == "blocked":
            raise SourceNotRunning(source_id, view.status)
        for spec in actions_of(view.source):
            if spec.id == action_id:
                return view.source, spec
        raise UnknownAction(source_id, action_id)

    async def _once(
        self, user: UserId, key: str, source: FeedSource, spec: ActionSpec, given: BaseModel | None
    ) -> JsonValue:
        """The first one with this key does it; whoever comes later gets that answer."""
        database = self._manager.setup.database
        holder = ReplicaId(f"{self._replica}:{uuid4().hex[:12]}")
        ttl_s = self._manager.setup.options.action_timeout_s + _CLAIM_SLACK_S
        try:
            claim = await action_results.claim(database, user, key, holder, ttl_s)
        except StorageUnavailable as problem:
            raise StorageUnavailableError("none") from problem
        except NoRow:
            raise SourceNotRunning(source.id, "off") from None
        if claim.state == "done":
            return claim.answer
        if claim.state == "running":
            raise TimedOut("unknown")
        try:
            answer = await self._do(source, spec, given)
        except RpcError as refused:
            # Nothing was done, as far as can be known: a repeat tries anew.
            if not isinstance(refused, TimedOut):
                await self._release(user, key, holder)
            raise
        try:
            await action_results.finish(database, user, key, holder, answer)
        except StorageUnavailable:
            # Done, and the answer is here: losing the note of it is no reason to deny it.
            _log.warning("action_answer_not_kept", source=source.id, action=spec.id)
        return answer

    async def _release(self, user: UserId, key: str, holder: ReplicaId) -> None:
        # Where it cannot be given back, the claim ends by itself.
        with suppress(StorageUnavailable):
            await action_results.release(self._manager.setup.database, user, key, holder)

    async def _do(self, source: FeedSource, spec: ActionSpec, given: BaseModel | None) -> JsonValue:
        setup = self._manager.setup
        try:
            with expire_after(setup.clock, setup.options.action_timeout_s) as scope:
                return _answer(await source.execute_action(spec.id, given))
        except SourceFailure as failure:
            retry_in_ms = None if failure.retry_after_s is None else round(failure.retry_after_s * 1000)
            raise ActionFailed(source.id, spec.id, failure.message, retry_in_ms=retry_in_ms) from None
        except StorageUnavailable as problem:
            raise StorageUnavailableError(problem.outcome) from problem
        except StoredLimitReached as full:
            raise LimitReached(full.limit, full.maximum) from None
        except BaseException as error:  # foreign code: whatever it raises is this action's failure alone
            if is_cancellation(error) or is_fatal(error):
                raise
            error_id = uuid4().hex
            _log.exception("action_failed", source=source.id, action=spec.id, error_id=error_id)
            raise ActionFailed(source.id, spec.id, f"it failed (error {error_id[:8]})") from error
        assert scope.cancelled_caught
        raise TimedOut("unknown")


def _validated(spec: ActionSpec, params: JsonValue) -> BaseModel | None:
    """The input as the source takes it: from JSON, so that a date is a string. Raises InvalidParams."""
    if spec.params is None:
        if params not in (None, {}):
            raise InvalidParams([Issue(("params",), "this action takes no input")])
        return None
    value: JsonValue = dict[str, JsonValue]() if params is None else params
    try:
        return spec.params.model_validate_json(orjson.dumps(value))
    except ValidationError as error:
        issues = issues_of(error, value)
        raise InvalidParams([Issue(("params", *each.path), each.message) for each in issues]) from None


def _answer(answer: JsonValue) -> JsonValue:
    """What a source answered, if it can be sent. Raises SourceFailure."""
    try:
        frozen = freeze(answer)
    except ValueError:
        raise SourceFailure("its answer cannot be sent") from None
    if len(orjson.dumps(frozen)) > _MAX_ANSWER_BYTES:
        raise SourceFailure("its answer is too large")
    return frozen
