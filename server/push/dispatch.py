"""From a message to its answer: read, limited, allowed, run in order, answered exactly once.

Requests that write run one after another in their order of arrival; those that read run beside them. What
leaves a handler is an error reply; nothing but cancellation goes further.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog
from anyio import Event

from protocol.closing import CloseCode
from protocol.encoding import error_response, response
from protocol.errors import (
    InternalError,
    InvalidRequest,
    InvalidToken,
    LimitReached,
    MethodNotFound,
    Outcome,
    ParseError,
    RateLimited,
    RpcError,
    StorageUnavailableError,
    TimedOut,
)
from protocol.jsonrpc import FrameError, Notification, Request, RequestId, Response, parse
from protocol.transport import MAX_FRAME_BYTES
from server import tracing
from server.engine.clock import expire_after
from server.engine.tasks import TaskScope, is_cancellation, is_fatal
from server.push import lifetime
from server.push.calls import Calls
from server.push.endpoints import Call, Endpoint, Later, Result, encode
from server.session.errors import SessionError

if TYPE_CHECKING:
    from server.push.connection import Connection
    from server.push.hub import Hub

__all__ = ["Dispatcher", "Work"]

# Room for the frame's header and the reply's own envelope.
_MAX_RESULT_BYTES: Final = MAX_FRAME_BYTES - 1024

_log = structlog.stdlib.get_logger(__name__)


class Work:
    """One request on its way. `id` None: it is not to be answered."""

    __slots__ = ("began_at", "calls", "connection", "endpoint", "id", "run")

    def __init__(
        self,
        connection: Connection,
        calls: Calls,
        endpoint: Endpoint,
        request_id: RequestId | None,
        run: Callable[[], Awaitable[Result]],
        began_at: float,
    ) -> None:
        self.connection = connection
        self.calls = calls
        self.endpoint = endpoint
        self.id = request_id
        self.run = run
        self.began_at = began_at

    def about(self) -> tracing.Attributes:
        """What a trace says of it."""
        method, connection = self.endpoint.method.name, self.connection.id
        return {"rpc.system.name": "jsonrpc", "rpc.method": method, "freya.connection": connection}


class Dispatcher:
    """Serves the messages of all connections. Tasks run in the scope it is given."""

    def __init__(self, hub: Hub, tasks: TaskScope, endpoints: Mapping[str, Endpoint]) -> None:
        self._hub = hub
        self._tasks = tasks
        self._endpoints = endpoints
        self._writing = 0
        self._written: Event | None = None

    def receive(self, connection: Connection, payload: bytes) -> None:
        """A text message has come. Never waits, never raises."""
        now = self._hub.clock.monotonic()
        calls = self._calls(connection, now)
        wait_s = calls.take(now)
        try:
            message = parse(payload)
        except FrameError as wrong:
            self._broken(connection, calls, wrong.error, wrong.id, silent=wrong.silent)
            return
        calls.strikes = 0
        if isinstance(message, Response):
            self._hub.counters.stray_responses += 1
            self._limited(connection, calls, None, wait_s)
            return
        if self._limited(connection, calls, message.id if isinstance(message, Request) else None, wait_s):
            return
        self._take_on(connection, calls, message, now)

    def receive_binary(self, connection: Connection) -> None:
        """A message has come that is not text."""
        now = self._hub.clock.monotonic()
        calls = self._calls(connection, now)
        calls.take(now)
        self._broken(connection, calls, ParseError(message="a binary frame: send text"), None, silent=False)

    def _calls(self, connection: Connection, now: float) -> Calls:
        calls = connection.calls
        if calls is None:
            calls = connection.calls = Calls(self._hub.options, now)
        return calls

    def _broken(
        self, connection: Connection, calls: Calls, error: RpcError, id_: RequestId | None, *, silent: bool
    ) -> None:
        self._hub.counters.bad_messages += 1
        calls.strikes += 1
        if calls.strikes > self._hub.options.max_strikes:
            connection.close(CloseCode.MISUSE, "too many broken messages")
        elif not silent:
            # An id that is in flight gets one answer, and this is not it.
            id_ = None if id_ is not None and calls.is_in_flight(id_) else id_
            connection.reply(connection.framed(error_response(id_, error)))

    def _limited(
        self, connection: Connection, calls: Calls, request_id: RequestId | None, wait_s: float
    ) -> bool:
        """Whether the message is one too many: then it is refused here."""
        if not wait_s:
            calls.refused = 0
            return False
        self._hub.counters.rate_limited += 1
        self._hub.counters.limit("requests_per_s")
        calls.refused += 1
        if calls.refused > self._hub.options.max_refusals:
            connection.refuse(wait_s)
        elif request_id is not None:
            self._refuse(connection, calls, request_id, RateLimited(math.ceil(wait_s * 1000)))
        return True

    def _refuse(
        self, connection: Connection, calls: Calls, request_id: RequestId | None, error: RpcError
    ) -> None:
        """Answers a request that is not taken on."""
        if request_id is not None:
            if calls.is_in_flight(request_id):
                request_id = None
            connection.reply(connection.framed(error_response(request_id, error)))

    def _take_on(
        self, connection: Connection, calls: Calls, message: Request | Notification, now: float
    ) -> None:
        request_id = message.id if isinstance(message, Request) else None
        endpoint = self._endpoints.get(message.method)
        call = Call(connection, connection.bearer.claims)
        try:
            if request_id is not None and calls.is_in_flight(request_id):
                raise InvalidRequest(message="that id is still in flight")
            if self._hub.clock.now().timestamp() >= connection.bearer.ends_at:
                raise InvalidToken("the token has expired")
            if endpoint is None:
                raise MethodNotFound(message.method[:128])
            if endpoint.at_once is not None:
                result = endpoint.at_once(call, message.params)
                self._reply(connection, request_id, result)
                self._count(endpoint, now, None)
                return
            assert endpoint.in_time is not None
            run = endpoint.in_time(call, message.params)
        except Exception as left:
            error = self._error_of(left, "none", message.method)
            self._refuse(connection, calls, request_id, error)
            if endpoint is not None:
                self._count(endpoint, now, error)
            return
        self._start(Work(connection, calls, endpoint, request_id, run, now))

    # Running

    def _start(self, work: Work) -> None:
        work.calls.begin(work)
        if work.calls.count == self._hub.options.max_concurrent_requests:
            self._hub.counters.limit("concurrent_requests")
        if not work.endpoint.method.writes:
            work.calls.reads(work, self._tasks.start(self._run, work, name=work.endpoint.method.name))
            return
        work.calls.wait(work)
        if not work.calls.writing:
            work.calls.writes(self._tasks.start(self._run_writes, work.calls, name="writes"))

    async def wait_written(self) -> None:
        """Returns once no request that writes is running."""
        while self._writing:
            self._written = self._written or Event()
            await self._written.wait()

    async def _run_writes(self, calls: Calls) -> None:
        self._writing += 1
        try:
            while (work := calls.next_write()) is not None:
                await self._run(work)
        finally:
            calls.writes(None)
            self._writing -= 1
            if not self._writing and self._written is not None:
                self._written.set()
                self._written = None

    async def _run(self, work: Work) -> None:
        """Runs one request to its answer, within its deadline."""
        with tracing.request(work.endpoint.method.name, work.about) as stretch:
            await self._run_traced(work, stretch)

    async def _run_traced(self, work: Work, stretch: tracing.Stretch) -> None:
        error: RpcError | None = None
        try:
            left_s = work.began_at + self._hub.options.request_timeout_s - self._hub.clock.monotonic()
            # One that has waited too long for its turn is not begun.
            error = TimedOut("unknown" if work.endpoint.method.writes and left_s > 0 else "none")
            if left_s > 0:
                with expire_after(self._hub.clock, left_s):
                    result = await work.run()
                    error = None
                    self._reply(work.connection, work.id, result)
        except BaseException as left:  # the top of a request, whose handler may call foreign code
            if is_cancellation(left) or is_fatal(left):
                error = None
                raise
            outcome: Outcome = "unknown" if work.endpoint.method.writes else "none"
            error = self._error_of(left, outcome, work.endpoint.method.name)
        finally:
            work.calls.end(work)
            if error is not None:
                stretch.fail(str(error.code))
                self._reply_error(work.connection, work.id, error)
            self._count(work.endpoint, work.began_at, error)
            self._ended(work.connection)

    def _ended(self, connection: Connection) -> None:
        connection.go_on()
        if not connection.running and not connection.is_closed:
            now = self._hub.clock.monotonic()
            if lifetime.ends_once_answered(connection, now):
                self._hub.sweeper.watch(connection, now)

    # Answering

    def _reply(self, connection: Connection, request_id: RequestId | None, result: Result) -> None:
        if request_id is None:
            return
        if isinstance(result, Later):
            connection.reply(lambda: self._frame(connection, request_id, result))
        else:
            connection.reply(self._frame(connection, request_id, result))

    def _frame(self, connection: Connection, request_id: RequestId, result: Result) -> bytes:
        payload = encode(result)
        if len(payload) > _MAX_RESULT_BYTES:
            error = LimitReached("maxFrameBytes", MAX_FRAME_BYTES)
            return connection.framed(error_response(request_id, error))
        return connection.framed(response(request_id, payload))

    def _reply_error(self, connection: Connection, request_id: RequestId | None, error: RpcError) -> None:
        if request_id is not None:
            connection.reply(connection.framed(error_response(request_id, error)))

    def _error_of(self, left: BaseException, outcome: Outcome, method: str) -> RpcError:
        """What the client is told. What it must not be told is in the log, under the same id."""
        match left:
            case RpcError():
                return left
            case SessionError():
                return StorageUnavailableError(outcome)
            case _:
                error_id = uuid4().hex
                _log.error("request_failed", method=method, error_id=error_id, exc_info=left)
                return InternalError(error_id)

    def _count(self, endpoint: Endpoint, began_at: float, error: RpcError | None) -> None:
        figures = self._hub.counters.method(endpoint.method.name)
        figures.seconds.record(self._hub.clock.monotonic() - began_at)
        if error is not None:
            figures.errors[error.code] = figures.errors.get(error.code, 0) + 1
