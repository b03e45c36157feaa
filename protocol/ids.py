"""The ids that must not be swapped for one another.

Each is a plain string at run time; the type checker keeps them apart. A feed is named by its user's id,
so a feed's name is a `UserId` too.
"""

from __future__ import annotations

from typing import NewType

__all__ = ["ConnectionId", "ReplicaId", "SourceId", "UserId"]

UserId = NewType("UserId", str)
SourceId = NewType("SourceId", str)
ConnectionId = NewType("ConnectionId", str)
ReplicaId = NewType("ReplicaId", str)
