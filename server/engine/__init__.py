"""The feed engine: sources in, one ranked list out. Knows nothing of users, sockets or SQL.

Read `source` for what a source is, `engine` for how they are joined.
"""

from __future__ import annotations

from server.engine.clock import Clock, SystemClock, Timer
from server.engine.compiler import Finish
from server.engine.context import Context
from server.engine.engine import FeedEngine
from server.engine.limits import LIMITS_ID, FeedLimits
from server.engine.processors import NOTHING, PostProcessor, Processed
from server.engine.report import SavedSource
from server.engine.slot import Trigger
from server.engine.source import (
    ActionSpec,
    Answer,
    BadAnswer,
    ConfigProblem,
    FeedSource,
    RateLimited,
    SourceFailure,
    SourceHandle,
    Unauthorized,
    Unreachable,
)
from server.engine.state import Cause, EngineState
from server.engine.status import EngineStatistics, SourceState, SourceStatus
from server.engine.tasks import TaskScope

__all__ = [
    "LIMITS_ID",
    "NOTHING",
    "ActionSpec",
    "Answer",
    "BadAnswer",
    "Cause",
    "Clock",
    "ConfigProblem",
    "Context",
    "EngineState",
    "EngineStatistics",
    "FeedEngine",
    "FeedLimits",
    "FeedSource",
    "Finish",
    "PostProcessor",
    "Processed",
    "RateLimited",
    "SavedSource",
    "SourceFailure",
    "SourceHandle",
    "SourceState",
    "SourceStatus",
    "SystemClock",
    "TaskScope",
    "Timer",
    "Trigger",
    "Unauthorized",
    "Unreachable",
]
