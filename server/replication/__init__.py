"""How replicas tell each other that a user's rows have changed. Hints only: the rows are the truth."""

from __future__ import annotations

from server.replication.bus import Bus, Hint
from server.replication.memory import MemoryBus, MemoryHub

__all__ = ["Bus", "Hint", "MemoryBus", "MemoryHub"]
