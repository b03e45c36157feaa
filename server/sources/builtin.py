"""The built-in providers, in the order in which their items come where nothing else decides."""

from __future__ import annotations

from server.sources.clock import ClockProvider
from server.sources.inbox import InboxProvider
from server.sources.location import LocationProvider
from server.sources.provider import AnyProvider
from server.sources.reminders import RemindersProvider
from server.sources.services import SourceOptions
from server.sources.synthetic import SyntheticProvider
from server.sources.user import UserProvider

__all__ = ["builtin_providers"]


def builtin_providers(options: SourceOptions) -> tuple[AnyProvider, ...]:
    """One of each, made anew: a process has one set."""
    everyday = (
        UserProvider(),
        LocationProvider(),
        ClockProvider(),
        InboxProvider(),
        RemindersProvider(),
    )
    return (*everyday, SyntheticProvider()) if options.synthetic else everyday
