"""Items of every kind that the dashboard draws in its own way, as a backend may publish them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from protocol.frozen import JsonObject
from protocol.times import to_wire

__all__ = ["showcase"]

_HOURS = (
    (0, "mostlyCloudy", 0.1),
    (1, "cloudy", 0.2),
    (2, "rain", 0.7),
    (3, "drizzle", 0.5),
    (4, "clear", 0.0),
)
_DAYS = ((0, "cloudy"), (1, "rain"), (2, "mostlyClear"))


def showcase(now: datetime) -> list[JsonObject]:
    """One of each, as things stand at `now`."""

    def at(**away: float) -> str:
        return to_wire(now + timedelta(**away))

    def day(days: int) -> str:
        return (now + timedelta(days=days)).date().isoformat()

    return [
        _item(
            "event",
            "caldav-event",
            ("imminent", 0.9),
            title="Design review",
            startDate=at(hours=1),
            endDate=at(hours=2),
            isAllDay=False,
            location="Room 4, second floor",
            description="Bring the plots of last week.",
            calendarName="Work",
            status="confirmed",
            attendees=[{"name": "Ola"}, {"name": "Kay"}],
        ),
        _item(
            "transit",
            "tfl-status",
            ("imminent", 0.8),
            alerts=[
                {
                    "line": "victoria",
                    "lineName": "Victoria",
                    "severity": "major-delays",
                    "description": "Severe delays between Highbury and Brixton: a signal has failed.",
                    "closestStationDistance": 0.42,
                },
                {"line": "windrush", "lineName": "Windrush", "severity": "minor-delays", "description": ""},
            ],
        ),
        {
            **_item(
                "now",
                "weather-current",
                ("imminent", 0.5),
                units="metric",
                conditionCode="mostlyCloudy",
                temperature=12.4,
                temperatureApparent=10.8,
                humidity=0.71,
                windSpeed=18,
                pressure=1014,
            ),
            "slots": {
                "insight": {"description": "The weather in words", "content": "Rain comes around noon."}
            },
        },
        _item(
            "hours",
            "weather-hourly",
            ("upcoming", 0.3),
            units="metric",
            hours=[
                {
                    "forecastTime": at(hours=hour),
                    "conditionCode": code,
                    "temperature": 11 + hour,
                    "precipitationChance": chance,
                }
                for hour, code, chance in _HOURS
            ],
        ),
        _item(
            "days",
            "weather-daily",
            ("ambient", 0.2),
            units="metric",
            days=[
                {
                    "forecastDate": day(days),
                    "conditionCode": code,
                    "temperatureMin": 6 + days,
                    "temperatureMax": 13 + days,
                    "precipitationChance": 0.2 * days,
                }
                for days, code in _DAYS
            ],
        ),
        _item(
            "retreat",
            "caldav-event",
            ("upcoming", 0.4),
            title="Company retreat",
            startDate=at(days=1),
            endDate=at(days=3),
            isAllDay=True,
            startDay=day(1),
            endDay=day(2),
            calendarName="Home",
            status="tentative",
        ),
        _item(
            "bridge",
            "news-article",
            ("ambient", 0.2),
            title="The harbour bridge opens again",
            summary="After two years of work it carries trams, bicycles and people on foot.",
            link="https://news.example/bridge",
            author="R. Lind",
            feedTitle="City Post",
            publishedAt=at(hours=-2),
        ),
        _item(
            "song",
            "music-now-playing",
            ("ambient", 0.3),
            artist="The Tall Ships",
            track="Says",
            release="Spaces",
        ),
        _item(
            "parcel",
            "parcel",
            ("upcoming", 0.7),
            title="Parcel on its way",
            carrier="Post",
            stopsLeft=4,
            expectedAt=at(minutes=50),
            url="https://track.example/1",
        ),
        _item(
            "wind",
            "weather-alert",
            ("upcoming", 0.6),
            description="Yellow warning of wind",
            areaName="South coast",
            severity="moderate",
            expireTime=at(hours=9),
            source="Met Office",
            detailsUrl="https://met.example/1",
        ),
    ]


def _item(item_id: str, kind: str, signals: tuple[str, float], **data: object) -> JsonObject:
    relevance, urgency = signals
    told: Mapping[str, object] = data
    return {
        "id": item_id,
        "type": kind,
        "data": dict(told),  # pyright: ignore[reportReturnType] -- JSON, as everything above is
        "signals": {"timeRelevance": relevance, "urgency": urgency},
    }
