"""How a source is tested: ask it what it says at a certain time. No server, no database, no waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from freya_push_quotes import QuotesConfig, QuotesProvider, QuotesSource

from protocol.feed import ContextEntry
from server.engine.context import Context
from server.sources.registry import check_provider

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(when: datetime, zone: str = "UTC") -> Context:
    return Context.of([ContextEntry.make(("freya.user", "settings"), {"timeZone": zone})], when)


def test_there_is_one_quote_a_day() -> None:
    source = QuotesSource(QuotesConfig())
    answers = [source.reconsider(at(NOON + timedelta(days=n))) for n in range(3)]
    assert {answer.items[0].id for answer in answers} == {"com.example.quotes/today"}
    assert len({str(answer.items[0].data["text"]) for answer in answers}) == 3
    assert source.reconsider(at(NOON)).items == source.reconsider(at(NOON + timedelta(hours=3))).items


def test_it_changes_at_midnight_where_the_user_lives() -> None:
    source = QuotesSource(QuotesConfig())
    assert source.reconsider(at(NOON)).next_change_at == datetime(2026, 3, 3, tzinfo=UTC)
    assert source.reconsider(at(NOON, "Asia/Tokyo")).next_change_at == datetime(2026, 3, 2, 15, tzinfo=UTC)


def test_only_quotes_of_the_wanted_author_are_shown() -> None:
    source = QuotesSource(QuotesConfig(author="Aristotle"))
    assert source.reconsider(at(NOON)).items[0].data["author"] == "Aristotle"
    assert QuotesSource(QuotesConfig(author="Nobody")).reconsider(at(NOON)).items == ()


def test_the_server_would_take_it() -> None:
    check_provider(QuotesProvider())
