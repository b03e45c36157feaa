"""The knobs of the sessions, with the defaults they run with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SessionOptions"]


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How many sessions, how long, and how patient they are. Seconds, bytes and counts."""

    idle_ttl_s: float = 1800.0
    """How long a session lives on after its last listener left."""

    max_sessions: int = 50_000
    """Past it the longest idle session goes; where none is idle, a new one is refused."""

    max_sources: int = 64
    """Rows of sources that a user may have; one more is refused."""

    history_revisions: int = 64
    """Revisions a session keeps, so that who comes back gets the difference."""

    history_bytes: int = 256 * 1024
    """What the kept revisions may cost beside the present one."""

    history_s: float = 600.0
    """After so long without a change of its own, an old revision is let go: most sessions are quiet."""

    build_timeout_s: float = 10.0
    """What a provider may take to build one source."""

    build_patience_s: float = 0.05
    """How long a new session waits for its sources to be built before it is handed out without them."""

    settle_s: float = 3.0
    """How long the answer to a write waits for what the write started, so that it can tell how it went."""

    retry_first_s: float = 2.0
    """The first retry of a source that could not be built; doubled, with jitter, up to `retry_max_s`."""

    retry_max_s: float = 300.0

    probe_timeout_s: float = 5.0
    """What a previewed or verified source may take, from being built to its answer."""

    probe_burst: int = 10
    """Previews and verified writes a user may make at once: each may ask the outside world."""

    probe_every_s: float = 6.0
    """How often one more is allowed after that."""

    verify_attempts: int = 4
    """How often a verified write is tried when others keep changing the row in between."""

    action_timeout_s: float = 10.0

    look_every_s: float = 5.0
    """How often sessions are compared with the store while the bus works; with 20 % of jitter."""

    look_alone_s: float = 2.0
    """How often while the bus is away."""

    save_every_s: float = 10.0
    """At most so often a source's last good answer is stored."""

    sweep_every_s: float = 15.0
    """How often idle sessions and old revisions are let go."""

    prune_every_s: float = 600.0
    """How often rows that are over (expired items, kept answers) are deleted, of all users."""

    concurrency: int = 8
    """Users served at once where many are: saving, publishing, replacing a provider's settings."""
