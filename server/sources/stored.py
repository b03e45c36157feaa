"""Sources whose truth is the user's rows: location, inbox, reminders."""

from __future__ import annotations

from abc import abstractmethod

from server.engine.source import FeedSource
from storage.loading import UserRows

__all__ = ["StoredSource"]


class StoredSource(FeedSource):
    """A source that shows what is stored, and never asks for it: the session hands it the rows.

    Its actions write through `Services.writes` and change nothing in memory by themselves. What was written
    comes back by `restore`, as a write of another replica does, so that memory and rows cannot part.
    """

    @abstractmethod
    def restore(self, rows: UserRows) -> None:
        """Takes over what is stored. Called before the source's first run, and whenever rows were read again.

        Must not wait nor raise. Idempotent; rows may also be older than the last ones (a database that failed
        over), and are the truth even so. Reports to the engine only if something changed.
        """
