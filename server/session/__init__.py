"""The users' living state: one session each, and the manager of all of them.

`manager` is the way in: sessions, and everything that is written. `user_session` is what one user has;
`patches`, `items`, `actions`, `users` and `providers` are the writes that clients ask for. Feed changes come
from the engine and leave to the listeners; nothing here knows of sockets.
"""

from __future__ import annotations

from server.session.listeners import FeedListener
from server.session.manager import SessionManager
from server.session.setup import SessionSetup
from server.session.user_session import UserSession

__all__ = ["FeedListener", "SessionManager", "SessionSetup", "UserSession"]
