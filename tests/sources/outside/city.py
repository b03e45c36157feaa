"""A city: every service of the outside world on loopback, a real server that asks them, and its people.

`python -m tests.sources.outside` shows one of them their feed, and counts what a thousand cost the services.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

import anyio
from anyio import fail_after

from protocol.client import LiveFeed, connect
from protocol.errors import RpcError
from protocol.feed import FeedState
from protocol.ids import UserId
from server.tokens import TokenKeys, generate, mint
from tests.sources.outside.conftest import LONDON
from tests.sources.outside.ics import calendar, event
from tests.support.programs import Server, serving
from tests.support.standins import ListenBrainz, OpenMeteo, Tfl
from tests.support.web import Asked, Reply, Web, open_web

__all__ = ["EVERYTHING", "City", "Outside", "open_outside", "running_city", "until", "until_shown"]

EVERYTHING = frozenset(
    {
        "caldav-event",
        "clock-greeting",
        "music-now-playing",
        "news-article",
        "tfl-status",
        "weather-current",
        "weather-daily",
        "weather-hourly",
    }
)
"""A type of item of each source that is put into a feed here."""

_TOKEN_S = 3600.0
_RSS = """<rss version="2.0"><channel><title>The Paper</title><item><title>{n} is the news</title>
<guid>https://news.example/{n}</guid><pubDate>{at}</pubDate></item></channel></rss>"""


@dataclass
class Outside:
    """The services, and how often each was asked."""

    weather: Web
    transit: Web
    music: Web
    documents: Web

    def calls(self) -> Counter[str]:
        counts = Counter({"weather": len(self.weather.requests)})
        for asked in self.transit.requests:
            counts["transit status" if asked.path.endswith("/Status") else "transit stations"] += 1
        counts["music"] = len(self.music.requests)
        for asked in self.documents.requests:
            counts["news" if asked.path.endswith(".xml") else "calendars"] += 1
        return counts

    @property
    def settings(self) -> Mapping[str, str]:
        """What a server must be told to find them."""
        return {
            "FREYA_OPEN_METEO_URL": self.weather.url,
            "FREYA_TFL_URL": self.transit.url,
            "FREYA_LISTENBRAINZ_URL": self.music.url,
            "FREYA_ALLOW_PRIVATE_UPSTREAMS": "1",
        }

    def configs(self, n: int) -> dict[str, dict[str, object]]:
        """What the n-th user is given: one of ten papers, and a calendar of their own."""
        documents = self.documents.url
        return {
            "freya.weather": {},
            "freya.tfl": {},
            "freya.calendar": {"url": f"{documents}/{n}.ics", "lookAheadDays": 1},
            "freya.news": {"feeds": [f"{documents}/{n % 10}.xml"]},
            "freya.music": {"user": f"listener{n % 10}"},
        }


@asynccontextmanager
async def open_outside() -> AsyncGenerator[Outside]:
    """Everything, now: an event that runs, delays on a line, music that plays."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    tfl, brainz = Tfl(), ListenBrainz()
    tfl.states = {"central": [(9, "Minor Delays", "Central Line: minor delays.")]}
    tfl.stations = {"central": [(51.515, -0.1415)]}
    brainz.playing = [("Nina Simone", "Sinnerman", "Pastel Blues")]
    meeting = event(
        "meeting",
        f"DTSTART:{now - timedelta(minutes=20):%Y%m%dT%H%M%SZ}",
        f"DTEND:{now + timedelta(minutes=40):%Y%m%dT%H%M%SZ}",
        "SUMMARY:A meeting that runs",
    )

    def document(asked: Asked) -> Reply:
        name, _, kind = asked.path[1:].partition(".")
        if asked.headers.get("if-none-match") == '"1"':
            return Reply(304, b"", {"etag": '"1"'})
        text = (
            calendar(meeting) if kind == "ics" else _RSS.format(n=name, at=f"{now:%a, %d %b %Y %H:%M:00 GMT}")
        )
        return Reply(200, text.encode(), {"etag": '"1"'})

    async with (
        open_web(OpenMeteo(now).answer) as weather,
        open_web(tfl.answer) as transit,
        open_web(brainz.answer) as music,
        open_web(document) as documents,
    ):
        yield Outside(weather, transit, music, documents)


@dataclass
class City:
    """A server, and the way to be one of its users."""

    server: Server
    outside: Outside
    keys: TokenKeys
    data_dir: Path

    def token(self, user: str) -> str:
        return mint(self.keys, UserId(user), now=datetime.now(UTC), ttl_s=_TOKEN_S)

    @asynccontextmanager
    async def at_home(self, user: str) -> AsyncGenerator[LiveFeed]:
        """Their feed, followed."""
        async with connect(self.server.url, self.token(user)) as feed:
            yield feed

    async def furnish(self, feed: LiveFeed, n: int) -> None:
        """Switches everything on for the n-th user, who is somewhere in one square of the city. It is early
        afternoon where they live, when nothing is hidden for the night."""
        chance = Random(n)
        hour = datetime.now(UTC).hour
        zone = f"Etc/GMT{(hour - 13):+d}" if -11 <= hour - 13 <= 11 else "UTC"
        await _insisting(lambda: feed.patch_source("freya.user", config={"timeZone": zone}))
        fix = {"lat": LONDON[0] + chance.uniform(0, 0.003), "lng": LONDON[1] + chance.uniform(0, 0.003)}
        await _insisting(lambda: feed.execute("freya.location", "update-location", fix))
        for source_id, config in self.outside.configs(n).items():
            put = partial(feed.put_source, source_id, enabled=True, config=config)
            await _insisting(put)


async def _insisting(ask: Callable[[], Awaitable[object]]) -> None:
    """Asks again what a server in a crowd had no time for."""
    while True:
        try:
            await ask()
        except RpcError as refused:
            if not refused.temporary:
                raise
            await anyio.sleep(0.5)
        else:
            return


@contextmanager
def running_city(outside: Outside) -> Generator[City]:
    """A server of its own with an empty database. Blocks while it starts and ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"freya-city-{secrets.token_hex(3)}-"))
    folder.chmod(0o711)
    keys = generate("HS256", "city")
    settings = {**outside.settings, "FREYA_JWT_KEYS": keys, "FREYA_LOG_LEVEL": "warning"}
    try:
        with serving("--data-dir", str(folder / "data"), settings=settings) as server:
            yield City(server, outside, TokenKeys.parse(keys), folder / "data")
            server.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def until_shown(feed: LiveFeed) -> FeedState:
    """The first state with an item of each source."""
    return await until(feed, lambda types: types >= EVERYTHING)


async def until(feed: LiveFeed, right: Callable[[set[str]], bool]) -> FeedState:
    """The first state whose types of items are right."""
    with fail_after(90):
        async for state in feed:
            if right({item.type for item in state.items}):
                return state
    raise AssertionError("the feed ended")
