"""What a manager is made with, and what it reports about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from pydantic import BaseModel

from protocol.ids import SourceId
from server.engine.clock import Clock
from server.engine.limits import FeedLimits
from server.engine.processors import PostProcessor
from server.engine.status import EngineCounts
from server.replication.bus import Bus
from server.session.directory import DirectoryStatistics
from server.session.options import SessionOptions
from server.session.parts import OverlayFactory
from server.sources.registry import ProviderRegistry
from server.sources.services import Services, UserWrites
from storage.credentials import KeyRing
from storage.database import Database
from storage.source_configs import DefaultRow

__all__ = ["ManagerStatistics", "SessionSetup"]


@dataclass(frozen=True, slots=True)
class SessionSetup:
    """What a manager is made with. `services` is called once, with the manager as the way to write."""

    database: Database
    bus: Bus
    clock: Clock
    registry: ProviderRegistry
    keys: KeyRing
    services: Callable[[UserWrites], Services]
    defaults: Sequence[DefaultRow] = ()
    """The rows of a new user."""
    environment: Mapping[SourceId, BaseModel] = field(default_factory=dict[SourceId, BaseModel])
    """Providers' settings that hold where none are stored."""
    options: SessionOptions = field(default_factory=SessionOptions)
    limits: FeedLimits = field(default_factory=FeedLimits)
    processors: Sequence[PostProcessor] = ()
    overlay: OverlayFactory | None = None
    rng: Random = field(default_factory=Random)
    counts: EngineCounts = field(default_factory=EngineCounts)
    """What the engines of all sessions did, those that have ended included."""


@dataclass(frozen=True, slots=True)
class ManagerStatistics:
    """What there is, and counts since the start."""

    directory: DirectoryStatistics
    reads: int
    """Rows read again for a live session."""
    looks: int
    looks_differing: int
    """Sessions that a look found to differ from their rows."""
    storage_trouble: bool
    """Whether the last look got no answer, or the last write found no room."""
    bus_healthy: bool
