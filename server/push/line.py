"""The health of one socket: when to ping, when it has been silent too long, when it is stuck. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["Line", "LineCheck", "Stop"]

# A stuck socket is looked at this often within the time after which it is dropped.
_STALL_LOOKS = 8


class Stop:
    """Why the peer's silence proves nothing at the moment, as bits."""

    UNWRITABLE: Final = 1
    NOT_READING: Final = 2


class LineCheck(Enum):
    """What a look at the line says."""

    FINE = "fine"
    PING = "ping"
    SILENT = "silent"
    STUCK = "stuck"


class Line:
    """Clocks of one socket, in monotonic seconds.

    `heard` and `sent` are set by whoever reads and writes: any byte counts.
    """

    __slots__ = (
        "_left",
        "_moved_at",
        "_period_s",
        "_pinged",
        "_stopped_at",
        "_stops",
        "heard",
        "heartbeat_s",
        "sent",
    )

    def __init__(self, heartbeat_s: float, now: float, phase: float = 0.0) -> None:
        self.heartbeat_s = heartbeat_s
        self.heard = now
        self.sent = now
        self._pinged = now
        # Thousands that came in one storm must not ping in one beat for ever after: `phase`, from 0 to 1,
        # brings the first ping forward by up to half a heartbeat.
        self._period_s = heartbeat_s * (1 - phase / 2)
        self._stops = 0
        self._stopped_at = 0.0
        self._moved_at = 0.0
        self._left = 0

    def stop(self, why: int, now: float, buffered: int = 0) -> None:
        """The clock of silence stands still from now on; `buffered` bytes wait for an unwritable socket."""
        if not self._stops:
            self._stopped_at = now
        self._stops |= why
        if why == Stop.UNWRITABLE:
            self._moved_at, self._left = now, buffered

    def go_on(self, why: int, now: float) -> None:
        """That reason is over; without another one the clock of silence runs again."""
        if not self._stops & why:
            return
        self._stops &= ~why
        if not self._stops:
            self.heard = min(now, self.heard + now - self._stopped_at)

    def ping(self, now: float) -> None:
        """A ping is being sent."""
        self._pinged = self.sent = now
        self._period_s = self.heartbeat_s

    def check(self, now: float, grace_s: float, stall_s: float, buffered: int) -> tuple[LineCheck, float]:
        """What is due now, and when to look again. `buffered` is what still waits to be written."""
        if self._stops & Stop.UNWRITABLE:
            if buffered < self._left:
                self._moved_at, self._left = now, buffered
            if now - self._moved_at >= stall_s:
                return LineCheck.STUCK, now
            return LineCheck.FINE, min(self._moved_at + stall_s, now + stall_s / _STALL_LOOKS)
        silent_at = self.heard + self.heartbeat_s + grace_s
        if self._stops:
            silent_at = now + self.heartbeat_s
        elif now >= silent_at:
            return LineCheck.SILENT, now
        # Silence of either side: a client that only talks would hear nothing from us.
        ping_at = max(self._pinged, min(self.heard, self.sent)) + self._period_s
        if now >= ping_at:
            return LineCheck.PING, min(now + self.heartbeat_s, silent_at)
        return LineCheck.FINE, min(ping_at, silent_at)
