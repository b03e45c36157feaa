"""Whether everything that was acknowledged is in PostgreSQL, looked at past our own code."""

from __future__ import annotations

from tests.faults.oracle import LOCATION, SETTINGS, Oracle, Violation
from tests.support.databases import connect

__all__ = ["check_stored"]

_INBOX = """
SELECT string_agg(item_id || '=' || (item #>> '{data,number}'), ',' ORDER BY item_id)
FROM inbox_items WHERE user_id = $1
"""
_SETTINGS = """
SELECT config ->> 'locale' || ' ' || version
FROM user_source_config WHERE user_id = $1 AND source_id = 'freya.user'
"""
_LOCATION = """
SELECT round((state ->> 'lat')::numeric * 1000)::int
FROM source_state WHERE user_id = $1 AND source_id = 'freya.location'
"""


async def check_stored(database: str, oracle: Oracle) -> None:
    """Compares the rows of every user with what was acknowledged. Raises Violation."""
    link = await connect(database)
    try:
        for user, expected in oracle.users.items():
            inbox = ",".join(f"{key}={number}" for key, number in sorted(expected.inbox.items())) or None
            looked_at: list[tuple[str, str, object]] = [("inbox", _INBOX, inbox)]
            if expected.settings is not None:
                settings = f"en-{expected.settings:06d} {expected.versions['freya.user']}"
                looked_at.append((SETTINGS, _SETTINGS, settings))
            if expected.location is not None:
                looked_at.append((LOCATION, _LOCATION, expected.location))
            for what, sql, must in looked_at:
                found = await link.fetchval(sql, user)
                if found != must:
                    raise Violation(f"{user}: the stored {what} is {found}, acknowledged was {must}")
    finally:
        await link.close()
