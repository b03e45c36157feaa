"""Who is calling: JSON Web Tokens, verified and (for development and tests) made.

`keys` holds what a signature is checked with, `claims` decides purely what a token allows, `verifier` joins
the two and remembers signatures, `jwks` keeps an issuer's published keys fresh. Where keys lie on disk is
the business of `server.keys`.
"""

from __future__ import annotations

from server.tokens.claims import MAX_TOKEN_BYTES, Claims, TokenOptions, TokenProblem
from server.tokens.keys import ALGORITHMS, MalformedKeys, TokenKey, TokenKeys, generate
from server.tokens.verifier import KeySource, TokenVerifier, mint

__all__ = [
    "ALGORITHMS",
    "MAX_TOKEN_BYTES",
    "Claims",
    "KeySource",
    "MalformedKeys",
    "TokenKey",
    "TokenKeys",
    "TokenOptions",
    "TokenProblem",
    "TokenVerifier",
    "generate",
    "mint",
]
