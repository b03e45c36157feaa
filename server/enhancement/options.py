"""The knobs of the LLM pass."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EnhancementOptions"]


@dataclass(frozen=True, slots=True)
class EnhancementOptions:
    """What it may cost, and how patient it is."""

    concurrency: int = 8
    """Calls in flight in the process."""

    debounce_s: float = 2.0
    """From the first new input to the call: what comes in between is asked with it."""

    min_interval_s: float = 30.0
    """Between the beginnings of two calls for one user."""

    calls_per_hour: int = 20
    """For one user, on all replicas together."""

    timeout_s: float = 30.0
    """For one call, its retries included."""

    lease_s: float = 45.0
    """How long a replica has the turn to ask for a user; longer than a call takes."""

    breaker_failures: int = 5
    """Failures in a row, of all users, after which nobody asks for a while."""

    breaker_s: float = 30.0
    """The first such while; it doubles with every further failure, to `breaker_most_s`."""

    breaker_most_s: float = 600.0

    synthetic_ttl_s: float = 6 * 3600.0
    """How long an item that the model made up is shown."""
