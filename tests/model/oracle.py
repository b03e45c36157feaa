"""What must be true, said as plainly as possible: no diffs, no cursors of our own making, no sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Oracle", "Shown"]

Shown = tuple[tuple[str, str], ...]
"""A feed as a person sees it: items in order, each with its text."""


@dataclass
class UserModel:
    """One user: what the board shows, what is in the inbox, which tags the board's config has."""

    board: dict[str, str] = field(default_factory=dict[str, str])
    inbox: dict[str, str] = field(default_factory=dict[str, str])
    tags: tuple[str, ...] = ()
    board_on: bool = True


class Oracle:
    """Holds what was done, what every revision showed, and what each connection was told."""

    def __init__(self, users: tuple[str, ...]) -> None:
        self.users = {user: UserModel() for user in users}
        self._revisions: dict[str, dict[str, tuple[int, Shown]]] = {user: {} for user in users}
        self._latest: dict[str, int] = dict.fromkeys(users, 0)
        self._seen: dict[str, int] = {}
        self.frames = 0

    # What is done

    def show(self, user: str, notes: Mapping[str, str]) -> None:
        """The board shows these from now on."""
        self.users[user].board = dict(notes)

    def publish(self, user: str, item_id: str, text: str) -> None:
        """An acknowledged publication; the same id replaces where it stands."""
        self.users[user].inbox[item_id] = text

    def retract(self, user: str, item_id: str) -> None:
        """An acknowledged retraction."""
        self.users[user].inbox.pop(item_id, None)

    def patch(self, user: str, *, enabled: bool | None = None, tags: tuple[str, ...] | None = None) -> None:
        """An acknowledged patch of the board's row."""
        model = self.users[user]
        model.board_on = model.board_on if enabled is None else enabled
        model.tags = model.tags if tags is None else tags

    # What is seen

    def revision(self, user: str, cursor: str, shown: Shown) -> None:
        """The session has a new state. A cursor names one state for good."""
        known = self._revisions[user].get(cursor)
        assert known is None or known[1] == shown, f"{user}: one cursor for two states"
        self._latest[user] += 1
        self._revisions[user].setdefault(cursor, (self._latest[user], shown))

    def told(self, connection: str, user: str, cursor: str, shown: Shown) -> None:
        """A connection has applied a frame: it must be a state of that user, no older than the last one."""
        self.frames += 1
        known = self._revisions[user].get(cursor)
        assert known is not None, f"{connection}: a cursor that {user}'s session never had"
        number, state = known
        assert shown == state, f"{connection}: shows {shown}, the session had {state}"
        assert number >= self._seen.get(connection, 0), f"{connection}: went back in time"
        self._seen[connection] = number

    def quiet(self, connection: str, user: str, shown: Shown) -> None:
        """Nothing is under way: every connection shows what was done."""
        assert sorted(shown) == sorted(self.expected(user)), f"{connection}: has not come to {user}'s state"

    def session_quiet(self, user: str, tags: tuple[str, ...], enabled: bool) -> None:
        """The running settings are the acknowledged ones."""
        model = self.users[user]
        assert (tags, enabled) == (model.tags, model.board_on), f"{user}: settings differ"

    def expected(self, user: str) -> Shown:
        """What the user's feed must hold, in any order of the two sources."""
        model = self.users[user]
        board = model.board if model.board_on else {}
        notes = tuple((f"test.board/{name}", text) for name, text in board.items())
        return notes + tuple((f"freya.inbox/backend.{name}", text) for name, text in model.inbox.items())

    def forget(self, connection: str) -> None:
        """The connection has ended for good."""
        self._seen.pop(connection, None)
