"""The connections: lent out with nothing open on them, taken back so or thrown away.

What the driver's pool leaves open is closed here: a connection is tried before it counts as lent out, a
broken one is replaced until the borrower's patience ends, and giving back never hangs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, Self, TypeVar, cast

import anyio
import asyncpg

from storage.connection import ConnectionLost, Driver, Tx, connect_failure

__all__ = ["Lent", "Pool"]

T = TypeVar("T")

_CONNECT_SHARE: Final = 0.6
# A connection that does not come to rest in that share of the patience is thrown away.
_CLEANUP_SHARE: Final = 0.1
_CLOSING_S: Final = 1.0
_PAUSE_FIRST_S: Final = 0.02
_PAUSE_MOST_S: Final = 0.25
# The driver would close a connection after so many statements, and whoever gives it back waits for that.
_FOR_EVER: Final = 2**62


class Lent(Driver, Protocol):
    """A connection that belongs to a pool."""

    def get_server_version(self) -> tuple[int, ...]: ...


class _DriverPool(Protocol):
    """As much of the driver's pool as we use; it is untyped."""

    async def acquire(self) -> Lent: ...
    async def release(self, connection: Lent) -> None: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...
    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...
    def get_max_size(self) -> int: ...


class Pool:
    """Up to `size` connections to one server, made when they are needed.

    `waiting` counts who waits for one, `lost` those that failed since the start; `trouble` is why the last
    attempt failed, None since one has succeeded.
    """

    def __init__(self, pool: _DriverPool, dsn: str, timeout_s: float) -> None:
        self._pool = pool
        self._dsn = dsn
        self._timeout_s = timeout_s
        self.waiting = 0
        self.lost = 0
        self.trouble: str | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, dsn: str, *, size: int, timeout_s: float, application_name: str
    ) -> AsyncGenerator[Self]:
        """Connects to nothing yet. `timeout_s` is the patience of one operation, for its shares here and for
        the limits that the server is told."""
        driver_pool = await _make_driver_pool(dsn, size, timeout_s, application_name)
        try:
            yield cls(driver_pool, dsn, timeout_s)
        finally:
            await _close(driver_pool)

    @property
    def size(self) -> int:
        return self._pool.get_size()

    @property
    def idle(self) -> int:
        return self._pool.get_idle_size()

    @property
    def maximum(self) -> int:
        return self._pool.get_max_size()

    async def start(self, first: Callable[[Tx], Awaitable[T]]) -> tuple[Lent, T]:
        """A connection on which `first` has succeeded, and its answer; to be given back.

        Tries other connections while they turn out lost, until it is cancelled; so `first` is something that
        may be done again. Raises StorageUnavailable where trying again is of no use.
        """
        pause = _PAUSE_FIRST_S
        while True:
            try:
                return await self._attempt(first)
            except ConnectionLost as error:
                self.lost += 1
                self.trouble = error.reason
            await anyio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MOST_S)

    async def give_back(self, driver: Lent, *, clean: bool) -> None:
        """The connection returns, or is thrown away. Raises nothing of its own.

        `clean` says that no transaction is open on it; else it is rolled back, shielded from cancellation
        and for a share of the patience at most.
        """
        if clean:
            # Asks the server nothing, and the driver shields it.
            await self._release(driver)
            return
        with anyio.move_on_after(self._timeout_s * _CLEANUP_SHARE, shield=True):
            try:
                await driver.execute("ROLLBACK")
            except BaseException as error:
                self.throw_away(driver)
                # Whatever broke the clean-up broke that connection only; but a cancellation is the scope's.
                if not isinstance(error, Exception):
                    raise
            else:
                await self._release(driver)

    def throw_away(self, driver: Lent) -> None:
        """End the connection without a word to the server; another takes its place."""
        try:
            driver.terminate()
        except asyncpg.InterfaceError:
            # It was lost, and the driver has taken it back already.
            return

    async def _attempt(self, first: Callable[[Tx], Awaitable[T]]) -> tuple[Lent, T]:
        driver = await self._acquire()
        try:
            answer = await first(Tx(driver))
        except BaseException:
            await self.give_back(driver, clean=False)
            raise
        self.trouble = None
        return driver, answer

    async def _acquire(self) -> Lent:
        self.waiting += 1
        try:
            return await self._pool.acquire()
        except Exception as error:
            raise connect_failure(self._dsn, error) from error
        finally:
            self.waiting -= 1

    async def _release(self, driver: Lent) -> None:
        try:
            await self._pool.release(driver)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            # It was lost at this very moment.
            self.throw_away(driver)


async def _make_driver_pool(dsn: str, size: int, timeout_s: float, application_name: str) -> _DriverPool:
    server_ms = str(round(timeout_s * 1000))
    pool = await asyncpg.create_pool(  # pyright: ignore[reportUnknownMemberType] -- the driver is untyped
        dsn,
        min_size=0,
        max_size=size,
        max_queries=_FOR_EVER,
        timeout=timeout_s * _CONNECT_SHARE,
        command_timeout=timeout_s,
        reset=_keep_as_it_is,
        server_settings={
            "application_name": application_name,
            # For the case that we are frozen or cut off and cannot give up by ourselves: nobody waits for a
            # user's turn longer than we would have kept it.
            "statement_timeout": server_ms,
            "lock_timeout": server_ms,
            "idle_in_transaction_session_timeout": server_ms,
            # Every statement here finds its rows by key. A plan made while the tables were still empty
            # would read them whole, and a busy connection keeps its plans.
            "enable_seqscan": "off",
            "jit": "off",
        },
    )
    return cast("_DriverPool", pool)


async def _keep_as_it_is(_: object) -> None:
    """Nothing of a session is ever changed but by BEGIN, so the pool's own reset would be a wasted trip."""


async def _close(pool: _DriverPool) -> None:
    with anyio.move_on_after(_CLOSING_S, shield=True):
        await pool.close()
        return
    pool.terminate()
