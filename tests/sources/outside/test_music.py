"""freya.music."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from server.sources.music import MusicConfig
from tests.sources.outside.conftest import Street, Town
from tests.support.standins import ListenBrainz
from tests.support.web import Reply, open_web

NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp())


async def listening(town: Town, url: str, **config: int) -> Street:
    street = town.with_options(listenbrainz_url=url).street()
    await street.add("freya.music", {"user": "rob", **config})
    return street


async def test_what_plays_and_what_was_heard_are_items(town: Town) -> None:
    brainz = ListenBrainz()
    brainz.playing = [("Nina Simone", "Sinnerman", "Pastel Blues")]
    brainz.listens = [(NOON + n, "Can", f"Track {n}", "Tago Mago") for n in (30, 20, 10, 0)]
    async with open_web(brainz.answer) as web:
        street = await listening(town, web.url, recent=2)
        assert street.json("music-now-playing") == {
            "artist": "Nina Simone",
            "track": "Sinnerman",
            "release": "Pastel Blues",
        }
        assert [item.id for item in street.of_type("music-listen")] == [
            f"freya.music/listen-{NOON + 30}",
            f"freya.music/listen-{NOON + 20}",
        ]
        assert web.requests[0].path == "/1/user/rob/playing-now"
        assert web.requests[1].target == "/1/user/rob/listens?count=10"


async def test_silence_is_no_item_and_no_error(town: Town) -> None:
    async with open_web(ListenBrainz().answer) as web:
        street = await listening(town, web.url)
        assert (street.items, street.error("freya.music")) == ((), None)


async def test_no_recent_listens_wanted_is_one_call_less(town: Town) -> None:
    brainz = ListenBrainz()
    async with open_web(brainz.answer) as web:
        await listening(town, web.url, recent=0)
        assert dict(brainz.calls) == {"playing-now": 1}


async def test_a_profile_is_asked_about_once_for_all_who_follow_it(town: Town) -> None:
    brainz = ListenBrainz()
    async with open_web(brainz.answer) as web:
        town = town.with_options(listenbrainz_url=web.url)
        streets = [town.street(f"user{n}") for n in range(20)]
        for n, street in enumerate(streets):
            await street.add("freya.music", {"user": "rob", "recent": n % 3})
        assert dict(brainz.calls) == {"playing-now": 1, "listens": 1}
        await streets[0].pass_time(60)
        for street in streets:
            await street.refresh()
        assert brainz.calls["playing-now"] <= 3


async def test_ids_stay_the_same_while_the_same_is_heard(town: Town) -> None:
    brainz = ListenBrainz()
    brainz.playing = [("Can", "Halleluhwah", "Tago Mago")]
    brainz.listens = [(NOON, "Can", "Paperhouse", "Tago Mago")]
    async with open_web(brainz.answer) as web:
        street = await listening(town, web.url)
        before = street.items
        await street.refresh()
        assert all(new is old for new, old in zip(street.items, before, strict=True))


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(404, b'{"code": 404}'), "config"),
        (Reply(200, b"<html>"), "badAnswer"),
        (Reply(200, b'{"payload": {"listens": [{"track_metadata": 1}]}}'), "badAnswer"),
        (Reply(429, b"", {"retry-after": "20"}), "rateLimited"),
        (Reply(502), "unreachable"),
    ],
)
async def test_every_bad_answer_has_its_name(town: Town, reply: Reply, code: str) -> None:
    async with open_web(lambda asked: reply) as web:
        street = await listening(town, web.url)
        error = street.error("freya.music")
        assert error is not None
        assert error.code == code


@pytest.mark.parametrize("user", ["", "a/b", "../admin", "a\nb", "x" * 101])
def test_a_name_cannot_lead_elsewhere(user: str) -> None:
    with pytest.raises(ValidationError):
        MusicConfig.model_validate({"user": user})


async def test_a_name_with_signs_is_still_one_part_of_the_path(town: Town) -> None:
    async with open_web(ListenBrainz().answer) as web:
        street = town.with_options(listenbrainz_url=web.url).street()
        await street.add("freya.music", {"user": "a b?c#d", "recent": 0})
        assert web.paths() == ["/1/user/a%20b%3Fc%23d/playing-now"]
