"""Everything at once: a real server, all sources, one feed."""

from __future__ import annotations

from tests.sources.outside.city import open_outside, running_city, until, until_shown


async def test_a_feed_shows_every_source_live() -> None:
    async with open_outside() as outside:
        with running_city(outside) as city:
            async with city.at_home("anna") as feed:
                await city.furnish(feed, 1)
                state = await until_shown(feed)
                assert {item.source_id for item in state.items} >= {
                    "freya.calendar",
                    "freya.clock",
                    "freya.music",
                    "freya.news",
                    "freya.tfl",
                    "freya.weather",
                }
                assert state.errors == ()
                (alert,) = [item for item in state.items if item.type == "tfl-status"]
                assert '"closestStationDistance":1.' in alert.encoded.decode()
                # A line is chosen, and the feed follows while the socket stays.
                await feed.execute("freya.tfl", "set-lines-of-interest", ["circle"])
                quiet = await until(feed, lambda types: "tfl-status" not in types)
                assert "weather-current" in {item.type for item in quiet.items}
            assert outside.calls()["weather"] == 1
