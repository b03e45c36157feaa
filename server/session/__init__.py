"""The users' living state: one session each, and the manager of all of them.

`user_session` holds what one user has, `manager` who has one, `patches`, `items`, `actions` and `users` are
the writes. Feed changes come from the engine and leave to the listeners; nothing here knows of sockets.
"""

from __future__ import annotations

__all__: list[str] = []
