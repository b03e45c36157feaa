"""Bodies named by what is in them, in steps."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from server.upstream.digests import digest_of

STEP = 512 * 1024


@pytest.mark.parametrize("length", [0, 1, STEP - 1, STEP, STEP + 1, 3 * STEP + 7])
async def test_the_name_of_a_body_is_the_one_of_the_whole(length: int) -> None:
    body = bytes(range(256)) * (length // 256 + 1)
    assert await digest_of(body[:length]) == blake2b(body[:length], digest_size=16).digest()
