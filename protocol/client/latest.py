"""One value that changes, and any number of readers that always get the newest: nothing queues up."""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio

__all__ = ["Latest"]

T = TypeVar("T")


class Latest(Generic[T]):
    """A value with a version. Readers remember the version they saw and wait for another."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._changed = anyio.Event()

    @property
    def value(self) -> T:
        return self._value

    @property
    def version(self) -> int:
        return self._version

    def set(self, value: T) -> None:
        """A new value; every waiting reader wakes."""
        self._value = value
        self._version += 1
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def wait_newer(self, seen: int) -> None:
        """Waits until the version is not `seen`; at once where it isn't. Cancelling it loses nothing."""
        while self._version == seen:
            await self._changed.wait()
