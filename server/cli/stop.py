"""How a command ends when it can't go on: one clear message, an exit code, no trace."""

from __future__ import annotations

__all__ = ["Stop"]


class Stop(Exception):
    """Ends the command. The message is for the person at the terminal; 1: the world, 2: what was asked
    for.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
