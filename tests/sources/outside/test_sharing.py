"""What many sessions cost their upstreams."""

from __future__ import annotations

from random import Random

from anyio import create_task_group

from server.engine.context import Context
from server.engine.source import Answer, FeedSource
from tests.sources.outside.conftest import LONDON, Street, Town
from tests.support.standins import OpenMeteo, Tfl
from tests.support.web import Reply, open_web

USERS = 10_000
QUIET_S = 0.0005


async def crowd(town: Town, sessions: int) -> list[Street]:
    """Users of one city block who come within ten seconds, each with weather and transit."""
    chance = Random(1)
    streets: list[Street] = []
    for n in range(sessions):
        street = town.street(f"user{n}", rng=n)
        street.at(LONDON[0] + chance.uniform(-0.003, 0.003), LONDON[1] + chance.uniform(-0.003, 0.003))
        street.engine.add(await street.build("freya.weather", {}))
        street.engine.add(await street.build("freya.tfl", {}))
        streets.append(street)
        if n % (sessions // 20) == 0:
            await street.pass_time(0.5)
    return streets


async def test_ten_thousand_users_of_a_city_cost_one_weather_call_and_one_transit_call_a_minute(
    town: Town,
) -> None:
    meteo, tfl = OpenMeteo(), Tfl()
    tfl.states = {"central": [(9, "Minor Delays", "Central Line: minor delays.")]}
    tfl.stations = {"central": [(51.515, -0.1415)]}
    async with open_web(meteo.answer) as weather, open_web(tfl.answer) as transit:
        town = town.with_options(open_meteo_url=weather.url, tfl_url=transit.url)
        street = town.street()
        street.at(*LONDON)
        users = [
            (await street.build("freya.weather", {}), await street.build("freya.tfl", {}))
            for _ in range(USERS)
        ]
        for minute in range(2):
            ctx = street.engine.context
            seen = set[int]()

            async def ask(weather: FeedSource, transit: FeedSource, ctx: Context, seen: set[int]) -> None:
                await weather.fetch_context(ctx)
                answers = [await weather.fetch_items(ctx), await transit.fetch_items(ctx)]
                assert isinstance(answers[0], Answer)
                seen.update(id(item) for item in answers[0].items)

            async with create_task_group() as group:
                for pair in users:
                    group.start_soon(ask, *pair, ctx, seen)
                await street.pass_time(60)
            assert (meteo.calls, tfl.status_calls, tfl.station_calls.total()) == (1, minute + 1, 1)
            # One report, and one object for each of its items, however many show it.
            assert len(seen) == 3


async def test_sessions_that_refresh_for_an_hour_keep_their_upstreams_to_the_periods(town: Town) -> None:
    meteo, tfl = OpenMeteo(), Tfl()
    async with open_web(meteo.answer) as weather, open_web(tfl.answer) as transit:
        town = town.with_options(open_meteo_url=weather.url, tfl_url=transit.url)
        streets = await crowd(town, 20)
        await streets[0].pass_time(3600, quiet_s=QUIET_S)
        assert 6 <= meteo.calls <= 8  # every ten minutes, or a little sooner
        assert 50 <= tfl.status_calls <= 61
        assert len(meteo.places) == 1


async def test_an_upstream_that_is_down_is_not_stormed(town: Town) -> None:
    async with open_web(lambda asked: Reply(503)) as web:
        town = town.with_options(open_meteo_url=web.url, tfl_url=web.url)
        streets = await crowd(town, 60)
        await streets[0].pass_time(120, quiet_s=QUIET_S)
        assert all(street.error("freya.weather") is not None for street in streets)
        # Three tries a call; 60 sessions that each tried by themselves would be thousands.
        assert len(web.requests) <= 3 * (120 / 30 + 2) + 3 * (120 / 20 + 2)


async def test_a_service_that_asks_to_be_left_alone_is_left_alone_by_all(town: Town) -> None:
    async with open_web(lambda asked: Reply(429, b"", {"retry-after": "100"})) as web:
        town = town.with_options(open_meteo_url=web.url, tfl_url=web.url)
        streets = await crowd(town, 60)
        await streets[0].pass_time(80, quiet_s=QUIET_S)
        assert len(web.requests) <= 2
