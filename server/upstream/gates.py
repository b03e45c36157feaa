"""How many requests may be under way to one host: a slow one holds up nobody but those who want it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyio import CapacityLimiter

__all__ = ["HostGates"]


class _Gate:
    __slots__ = ("limiter", "users")

    def __init__(self, width: int) -> None:
        self.limiter = CapacityLimiter(width)
        self.users = 0


class HostGates:
    """One gate a host, there only while somebody stands in or before it."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def through(self, host: str) -> AsyncGenerator[None]:
        """Waits for a place, in the order of arrival, and holds it for the block."""
        gate = self._gates.get(host)
        if gate is None:
            gate = self._gates[host] = _Gate(self._width)
        gate.users += 1
        try:
            async with gate.limiter:
                yield
        finally:
            gate.users -= 1
            if not gate.users:
                del self._gates[host]

    def __len__(self) -> int:
        return len(self._gates)
