from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.protocol.client.peers import Server, open_server


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    """A server that says what the test tells it to."""
    async with open_server() as server:
        yield server
