"""A moment of what `make fuzz` does for minutes: the same rubbish in every run."""

from __future__ import annotations

from random import Random

import pytest
from structlog.testing import capture_logs

from server.push import PushOptions
from tests.fuzz import targets
from tests.fuzz.guided import guided, is_installed
from tests.fuzz.rubbish import frames, text
from tests.push.conftest import World
from tests.push.peers import open_peer


def test_the_same_number_makes_the_same_rubbish_and_another_one_other() -> None:
    assert text(Random(1)) == text(Random(1))
    assert len({frames(Random(number)) for number in range(50)}) > 40


@pytest.mark.parametrize("first", [0, 1000])
def test_any_text_is_a_message_or_an_error(first: int) -> None:
    for number in range(first, first + 1000):
        targets.reader(number)


def test_bytes_become_the_same_events_however_they_are_cut() -> None:
    for number in range(600):
        targets.parser(number)


async def test_a_connection_that_sends_rubbish_troubles_nobody(world: World) -> None:
    options = PushOptions(requests_per_s=1e6, request_burst=10**6)
    server = await world.start(options=options)
    with capture_logs() as logs:
        async with open_peer(server.address, server.token("neighbour"), query="?own=0") as neighbour:
            for number in range(80):
                await targets.socket(number, server.address, server.token("rubbish"), neighbour)
    assert [log for log in logs if log["log_level"] in {"error", "critical"}] == []


def test_rubbish_that_is_bred_by_the_code_it_reaches_finds_nothing_in_a_moment() -> None:
    if not is_installed():
        pytest.skip("NO ATHERIS for this Python: what it would breed goes untried")
    assert guided(3.0, 7) == 0
