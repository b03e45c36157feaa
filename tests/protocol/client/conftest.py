from __future__ import annotations

import socket
from collections.abc import AsyncGenerator

import pytest

from tests.protocol.client.peers import Server, open_server


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    """A server that says what the test tells it to."""
    async with open_server() as server:
        yield server


@pytest.fixture
def free_url() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{taken.getsockname()[1]}"
