"""A real replica by a clock that stands still, as the tests of pushing start it."""

from __future__ import annotations

from tests.push.conftest import slow_world

__all__ = ["slow_world"]
