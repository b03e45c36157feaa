"""What keeps a server from starting, in words for whoever starts it."""

from __future__ import annotations

import errno

__all__ = ["CannotListen", "CannotStart"]


class CannotStart(Exception):
    """Something that the server needs is missing or can't be used. The text names it and shows no secret."""

    advice: str = ""
    """What to do about it, where the text doesn't say that already."""


class CannotListen(CannotStart):
    """An address can't be bound."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        match error.errno:
            case errno.EADDRINUSE:
                why, self.advice = (
                    "is taken: does a server run there already?",
                    f"Another port: --port {port + 1}",
                )
            case errno.EACCES:
                why, self.advice = (
                    "is not for this user: ports below 1024 are root's",
                    "Another one: --port 8080",
                )
            case _:
                why = f"can't be bound: {error.strerror or error}"
                self.advice = "Are FREYA_HOST, PORT and FREYA_OPS_LISTEN right?"
        super().__init__(f"{host}:{port} {why}")
