"""How large a benchmark is run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Size"]


@dataclass(frozen=True)
class Size:
    """Factors on counts and on seconds, and how often what is compared takes turns."""

    count: float = 1.0
    seconds: float = 1.0
    turns: int = 3

    @classmethod
    def quick(cls) -> Size:
        """To see that it runs."""
        return cls(0.1, 0.15, 1)

    def of(self, count: int, least: int = 20) -> int:
        """So many sockets or users."""
        return max(least, int(count * self.count))

    def s(self, seconds: float) -> float:
        """So many seconds."""
        return max(2.0, seconds * self.seconds)
