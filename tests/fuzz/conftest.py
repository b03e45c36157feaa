"""A real replica on a real socket, as the tests of pushing start it."""

from __future__ import annotations

from tests.push.conftest import server, world

__all__ = ["server", "world"]
