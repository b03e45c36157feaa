"""The wire contract of Freya Push, and the client that speaks it.

All of it is pure but `client`; it needs nothing of the server and imports nothing of it.
"""

from __future__ import annotations

from protocol.feed import FeedItem, FeedState, Group, Signals, Slot, SourceError

__all__ = ["FeedItem", "FeedState", "Group", "Signals", "Slot", "SourceError"]
