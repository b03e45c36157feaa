"""`set-lines-of-interest` is a change of the stored config, on every replica and for good."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from protocol.errors import InvalidParams
from protocol.frozen import JsonValue
from protocol.ids import SourceId
from server.sources.services import SourceOptions
from server.upstream.upstreams import UpstreamOptions, Upstreams
from tests.sources.conftest import ALICE, Home, House
from tests.support.clock import TestClock
from tests.support.standins import Tfl
from tests.support.web import open_web

TFL = SourceId("freya.tfl")


@pytest.fixture
async def underground(house: House, clock: TestClock) -> AsyncGenerator[House]:
    tfl = Tfl()
    tfl.states = {"central": [(9, "Minor Delays", None)], "victoria": [(6, "Severe Delays", None)]}
    async with (
        open_web(tfl.answer) as web,
        Upstreams.open(clock, UpstreamOptions(allow_private=True)) as upstreams,
    ):
        yield replace(house, options=SourceOptions(tfl_url=web.url), upstreams=upstreams)


def lines(home: Home) -> list[JsonValue]:
    return [
        alert["line"]
        for data in home.data("tfl-status")
        if isinstance(data["alerts"], list)
        for alert in data["alerts"]
        if isinstance(alert, dict)
    ]


async def choose(home: Home, chosen: JsonValue) -> JsonValue:
    answer = await home.actions.execute(home.user, TFL, "set-lines-of-interest", chosen)
    await home.settle()
    return answer


async def test_chosen_lines_are_stored_and_shown_on_every_replica(underground: House) -> None:
    async with underground.home() as home, underground.replica() as elsewhere:
        other = await underground.in_(elsewhere)
        await home.put(TFL, {})
        assert sorted(map(str, lines(home))) == ["central", "victoria"]
        before = await home.sources.get_state(ALICE, TFL)
        assert await choose(home, ["victoria", "circle"]) == {"lines": ["victoria", "circle"]}
        after = await home.sources.get_state(ALICE, TFL)
        assert (after["config"], lines(home)) == ({"lines": ["victoria", "circle"]}, ["victoria"])
        assert after["version"] != before["version"]
        await other.settle()
        assert lines(other) == ["victoria"]
    async with underground.home() as again:
        assert lines(again) == ["victoria"]


async def test_an_empty_list_means_all_lines_again(underground: House) -> None:
    async with underground.home() as home:
        await home.put(TFL, {"lines": ["circle"]})
        assert lines(home) == []
        await choose(home, [])
        state = await home.sources.get_state(ALICE, TFL)
        assert (state["config"], sorted(map(str, lines(home)))) == ({}, ["central", "victoria"])


@pytest.mark.parametrize("chosen", [["bakerlooo"], "central", {"lines": ["central"]}, None, [1]])
async def test_unknown_lines_change_nothing(underground: House, chosen: JsonValue) -> None:
    async with underground.home() as home:
        await home.put(TFL, {"lines": ["circle"]})
        with pytest.raises(InvalidParams):
            await choose(home, chosen)
        state = await home.sources.get_state(ALICE, TFL)
        assert state["config"] == {"lines": ["circle"]}
