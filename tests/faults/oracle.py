"""The plain model: what was written, what must therefore be shown, and what no client may ever see.

Every write of a user carries the next number, in the text of whatever it writes. So whatever a client shows
can be compared with what it showed before, and with what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.feed import Cursor, FeedState
from protocol.ids import UserId

__all__ = ["LOCATION", "SETTINGS", "Expected", "Oracle", "Violation", "shown_in"]

SETTINGS: Final = "settings"
LOCATION: Final = "location"


class Violation(AssertionError):
    """Something that must never happen has happened."""


@dataclass
class Expected:
    """What one user's writes have come to, as acknowledged."""

    inbox: dict[str, int] = field(default_factory=dict[str, int])
    """What lies in the inbox: local id -> number."""
    dismissed: dict[str, int] = field(default_factory=dict[str, int])
    """The number that an item had when it was dismissed."""
    settings: int | None = None
    location: int | None = None
    versions: dict[str, int] = field(default_factory=dict[str, int])
    issued: int = 0
    """The highest number ever sent."""

    def shown(self) -> dict[str, int]:
        """What every client must show: where -> number."""
        visible = {key: number for key, number in self.inbox.items() if self.dismissed.get(key) != number}
        rest = {SETTINGS: self.settings, LOCATION: self.location}
        return visible | {where: number for where, number in rest.items() if number is not None}


@dataclass
class _Seen:
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    seq: int = 0


class Oracle:
    """Is told of every acknowledged write and of everything that clients show."""

    def __init__(self) -> None:
        self.users: dict[UserId, Expected] = {}
        self.operations = 0
        self.frames = 0
        self._seen: dict[str, _Seen] = {}

    def user(self, user: UserId) -> Expected:
        """What is expected of that user."""
        return self.users.setdefault(user, Expected())

    def next_number(self, user: UserId) -> int:
        """For the next write."""
        expected = self.user(user)
        expected.issued += 1
        return expected.issued

    def versioned(self, user: UserId, source: str, version: int) -> None:
        """An acknowledged write of a source's settings named this version."""
        versions = self.user(user).versions
        if version <= versions.get(source, 0):
            raise Violation(f"{user}: {source} went from version {versions[source]} to {version}")
        versions[source] = version

    def saw(self, client: str, user: UserId, state: FeedState, cursor: str) -> None:
        """A client shows this now. Raises Violation where it went back in time, or shows what is not its
        user's."""
        self.frames += 1
        seen = self._seen.setdefault(client, _Seen())
        position = Cursor.decode(user, cursor)
        if position is None:
            raise Violation(f"{client} was given a cursor of another feed than {user}'s")
        if position.seq < seen.seq:
            raise Violation(f"{client} went back from write {seen.seq} to {position.seq}")
        seen.seq = position.seq
        for where, number in shown_in(user, state).items():
            if number < seen.numbers.get(where, 0):
                raise Violation(f"{client} went back from {seen.numbers[where]} to {number} in {where}")
            if number > self.user(user).issued:
                raise Violation(f"{client} shows {number} in {where}, which nobody wrote")
            seen.numbers[where] = number

    def differences(self, user: UserId, state: FeedState | None, versions: Mapping[str, int]) -> list[str]:
        """What a client of this user shows otherwise than it must; [] once all is well."""
        if state is None:
            return ["nothing is shown"]
        expected = self.user(user)
        shown, must = shown_in(user, state), expected.shown()
        wrong = [
            f"{where}: {shown.get(where)} instead of {must.get(where)}"
            for where in sorted(shown.keys() | must.keys())
            if shown.get(where) != must.get(where)
        ]
        return wrong + [
            f"{source} in version {versions.get(source)} instead of {version}"
            for source, version in expected.versions.items()
            if versions.get(source) != version
        ]


def shown_in(user: UserId, state: FeedState) -> dict[str, int]:
    """The numbers in what a client shows, by where they are. Raises Violation for another user's."""
    shown: dict[str, int] = {}
    for item in state.items:
        if item.source_id == "freya.inbox":
            owner, number = str(item.data["user"]), item.data["number"]
            assert isinstance(number, int)
            if owner != user:
                raise Violation(f"{user} is shown an item of {owner}")
            shown[item.id.rpartition(".")[2]] = number
    for entry in state.context:
        match entry.key, entry.value:
            case ("freya.user", "settings"), {"locale": str(locale)} if "-" in locale:
                shown[SETTINGS] = int(locale.partition("-")[2])
            case ("freya.location", "location"), {"lat": float(lat) | int(lat)}:
                shown[LOCATION] = round(lat * 1000)
            case _:
                pass
    return shown
