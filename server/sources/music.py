"""freya.music: what somebody listens to, as ListenBrainz knows it. An example of how small a source can be.

https://listenbrainz.readthedocs.io/en/latest/users/api/core.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import quote

from pydantic import BaseModel, Field, TypeAdapter

from protocol.feed import FeedItem, Signals
from protocol.frozen import JsonObject
from protocol.ids import SourceId, UserId
from protocol.times import to_wire
from server.engine.context import Context
from server.engine.source import FeedSource
from server.sources.item_types import MUSIC_LISTEN, MUSIC_PLAYING
from server.sources.provider import ConfigModel, FeedProvider
from server.sources.services import Services, SourceOptions
from server.upstream.shared import Shared

__all__ = ["MusicConfig", "MusicProvider", "MusicSource"]

_ID: Final = SourceId("freya.music")
_WHO: Final = "ListenBrainz"
_RECENT_MAX: Final = 10
_REFRESH_S: Final = 60.0


class MusicConfig(ConfigModel):
    """Whose music."""

    user: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f/]+$")] = Field(
        title="ListenBrainz user", description="The name of a public profile.", examples=["rob"]
    )
    recent: int = Field(
        default=3,
        ge=0,
        le=_RECENT_MAX,
        title="Recent listens",
        description="How many of what was heard last are shown; 0 for none.",
    )


class _Track(BaseModel):
    artist_name: str | None = None
    track_name: str | None = None
    release_name: str | None = None

    def data(self) -> JsonObject:
        """The words of our feed."""
        return {
            "artist": _text(self.artist_name),
            "track": _text(self.track_name),
            "release": _text(self.release_name),
        }


class _Listen(BaseModel):
    track_metadata: _Track
    listened_at: Annotated[int, Field(ge=0, le=253_402_300_799)] | None = None


class _Payload(BaseModel):
    listens: Annotated[list[_Listen], Field(max_length=1000)]


class _Answer(BaseModel):
    payload: _Payload


_SHAPE: Final = TypeAdapter(_Answer)

# What each profile was last heard to play, by address: a star has many listeners of its own.
_Answers = Shared[str, list[_Listen]]


class MusicSource(FeedSource):
    """One item for what is playing, one for each of the last listens."""

    id = _ID
    refresh_every_s = _REFRESH_S

    def __init__(self, config: MusicConfig, base: str, answers: _Answers, services: Services) -> None:
        self._config = config
        self._url = f"{base.rstrip('/')}/1/user/{quote(config.user, safe='')}"
        self._answers = answers
        self._services = services

    async def fetch_items(self, ctx: Context) -> Sequence[FeedItem]:
        playing = await self._ask(f"{self._url}/playing-now")
        recent = self._config.recent
        # All that anybody may want, so that everybody can share it.
        listens = await self._ask(f"{self._url}/listens?count={_RECENT_MAX}") if recent else []
        return [*self._playing(playing, ctx), *self._heard(listens[:recent])]

    async def _ask(self, url: str) -> list[_Listen]:
        async def load(_: object) -> list[_Listen]:
            answer = await self._services.outside.client.get_json(_WHO, url, _SHAPE)
            return answer.payload.listens

        return await self._answers.get(self._services.clock, url, load)

    def _playing(self, listens: Sequence[_Listen], ctx: Context) -> Iterator[FeedItem]:
        for listen in listens[:1]:
            # Nobody says since when; the same item stands as long as the same track plays.
            yield self.item(
                "now-playing",
                type=MUSIC_PLAYING,
                timestamp=_when(listen) or ctx.time.replace(hour=0, minute=0, second=0, microsecond=0),
                data=listen.track_metadata.data(),
                signals=Signals(0.3, "ambient"),
            )

    def _heard(self, listens: Sequence[_Listen]) -> Iterator[FeedItem]:
        by_time = {when: listen for listen in listens if (when := _when(listen)) is not None}
        for when, listen in by_time.items():
            yield self.item(
                f"listen-{int(when.timestamp())}",
                type=MUSIC_LISTEN,
                timestamp=when,
                data={**listen.track_metadata.data(), "listenedAt": to_wire(when)},
                signals=Signals(0.1, "ambient"),
            )


def _when(listen: _Listen) -> datetime | None:
    return None if listen.listened_at is None else datetime.fromtimestamp(listen.listened_at, UTC)


def _text(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "")[:300]


class MusicProvider(FeedProvider[MusicConfig]):
    """Makes `freya.music`."""

    source_id = _ID
    name = "Music"
    config_schema = MusicConfig
    builds_at_once = True

    def __init__(self, options: SourceOptions) -> None:
        self._base = options.listenbrainz_url
        # A little less than a refresh, so that somebody who asks alone gets something new each time.
        self._answers: _Answers = Shared(fresh_s=0.9 * _REFRESH_S, failure_s=20.0)

    async def source_for_user(
        self, user: UserId, config: MusicConfig, credentials: BaseModel | None, services: Services
    ) -> MusicSource:
        return MusicSource(config, self._base, self._answers, services)
