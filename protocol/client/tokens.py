"""The token in hand, and where the next one comes from."""

from __future__ import annotations

import re
from typing import Final

from protocol.client.failures import SignInRequired
from protocol.client.options import Token
from protocol.closing import CloseCode
from protocol.transport import MAX_TOKEN_BYTES

__all__ = ["TokenKeeper"]

# RFC 6750's b64token, which every JWT is; it is also fit to be the name of a subprotocol.
_B64TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class TokenKeeper:
    """Holds one token until it is refused. A callback is asked for the first and every next one; a string
    is all there is."""

    def __init__(self, token: Token) -> None:
        self._source = token
        self._held = _checked(token) if isinstance(token, str) else None

    async def get(self) -> str:
        """The token in hand, or a new one. Raises SignInRequired where there is none to be had, and whatever
        the callback raises."""
        if self._held is None:
            self._held = await self.ask()
        return self._held

    async def ask(self) -> str:
        """A new token, to be tried before it is held. Raises SignInRequired where there is nobody to ask."""
        if isinstance(self._source, str):
            raise SignInRequired(CloseCode.UNAUTHENTICATED, "the token was refused, and there is no other")
        return _checked(await self._source())

    @property
    def can_ask(self) -> bool:
        """Whether there is anybody to ask for a new token."""
        return not isinstance(self._source, str)

    def hold(self, token: str) -> None:
        """The server took this one."""
        self._held = token

    def drop(self) -> None:
        """The server refused the one in hand."""
        self._held = None


def _checked(token: str) -> str:
    """Kept out of headers and error texts alike, if it isn't a token."""
    if len(token) > MAX_TOKEN_BYTES or _B64TOKEN.fullmatch(token) is None:
        raise ValueError(f"not a token: up to {MAX_TOKEN_BYTES} of A-Z a-z 0-9 . _ ~ + / -")
    return token
