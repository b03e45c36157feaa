"""What keeps a server from starting, in words for whoever starts it."""

from __future__ import annotations

__all__ = ["CannotStart"]


class CannotStart(Exception):
    """Something that the server needs is missing or can't be used. The text names it and shows no secret."""

    advice: str = ""
    """What to do about it, where the text doesn't say that already."""
