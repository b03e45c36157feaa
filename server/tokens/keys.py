"""The keys that token signatures are checked with, each bound to its one algorithm.

Written as `KID:ALG:KEY,...`, where KEY is base64 or `file:PATH`:

    HS256           at least 32 random bytes
    ES256 (P-256), RS256 (at least 2,048 bits), EdDSA (Ed25519)
                    a PEM or DER key; a public key verifies, a private key also signs

The first key that can sign signs; all verify. Because a key has its algorithm, what a token's header asks
for can choose among keys but never change what is done with one (RFC 8725, section 3.1).
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from jwt import PyJWK

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "MalformedKeys",
    "PublicKey",
    "TokenKey",
    "TokenKeys",
    "algorithm_of",
    "generate",
]

Algorithm = Literal["HS256", "ES256", "RS256", "EdDSA"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)

PublicKey: TypeAlias = EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey
_PrivateKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey

_MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: as long as the hash
_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
_KID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class MalformedKeys(ValueError):
    """Keys that can't be read. The text says which and why, and never shows key material."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key. `verifies` is what checks signatures; `signs` makes them, where the private half is here.

    `prepared` is `verifies` as it is handed to the library, which need not find out then what it is.
    """

    kid: str
    algorithm: Algorithm
    verifies: bytes | PublicKey = field(repr=False)
    signs: bytes | _PrivateKey | None = field(repr=False)
    prepared: PyJWK | PublicKey = field(repr=False, compare=False)

    @classmethod
    def secret(cls, kid: str, key: bytes) -> TokenKey:
        """An HS256 key. Raises MalformedKeys if it is too short to be safe."""
        if len(key) < _MIN_SECRET_BYTES:
            raise MalformedKeys(
                f"key {kid}: HS256 needs at least {_MIN_SECRET_BYTES} bytes, this one has {len(key)}"
            )
        octets = {"kty": "oct", "k": base64.urlsafe_b64encode(key).decode().rstrip("=")}
        return cls(kid, "HS256", key, key, PyJWK(octets, algorithm="HS256"))

    @classmethod
    def asymmetric(cls, kid: str, key: PublicKey | _PrivateKey) -> TokenKey:
        """A key of the algorithm that its kind is for. MalformedKeys for other curves and short RSA."""
        private = (
            key if isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey) else None
        )
        public = cast("PublicKey", key) if private is None else private.public_key()
        return cls(kid, algorithm_of(kid, public), public, private, public)

    def public_entry(self) -> str:
        """The text form of what others need to check our signatures. Raises MalformedKeys: HS256 has no
        such.
        """
        if isinstance(self.verifies, bytes):
            raise MalformedKeys(f"key {self.kid}: whoever can check an HS256 signature can also make one")
        der = self.verifies.public_bytes(pem.Encoding.DER, pem.PublicFormat.SubjectPublicKeyInfo)
        return f"{self.kid}:{self.algorithm}:{base64.b64encode(der).decode()}"


class TokenKeys:
    """An immutable set of keys in order."""

    __slots__ = ("_by_kid", "_keys")

    def __init__(self, keys: tuple[TokenKey, ...]) -> None:
        self._keys = keys
        self._by_kid = {key.kid: key for key in keys}

    @classmethod
    def parse(cls, text: str) -> TokenKeys:
        """The keys of `KID:ALG:KEY,...`. Raises MalformedKeys, which names the entry and what is wrong."""
        keys = [_parse_entry(number, entry) for number, entry in enumerate(_entries(text), start=1)]
        if not keys:
            raise MalformedKeys("no key given")
        for key in keys:
            if sum(other.kid == key.kid for other in keys) > 1:
                raise MalformedKeys(f"two keys are called {key.kid}")
        return cls(tuple(keys))

    def __iter__(self) -> Iterator[TokenKey]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, kid: str) -> TokenKey | None:
        """The key of that id."""
        return self._by_kid.get(kid)

    @property
    def signer(self) -> TokenKey | None:
        """The first key that can sign."""
        return next((key for key in self._keys if key.signs is not None), None)


def algorithm_of(kid: str, key: object) -> Algorithm:
    """The one algorithm that a public key is for. Raises MalformedKeys for kinds that we don't take."""
    match key:
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return "ES256"
        case EllipticCurvePublicKey():
            raise MalformedKeys(f"key {kid}: ES256 needs the curve P-256, this one is on {key.curve.name}")
        case RSAPublicKey() if key.key_size >= _MIN_RSA_BITS:
            return "RS256"
        case RSAPublicKey():
            raise MalformedKeys(
                f"key {kid}: RS256 needs at least {_MIN_RSA_BITS} bits, this one has {key.key_size}"
            )
        case Ed25519PublicKey():
            return "EdDSA"
        case _:
            raise MalformedKeys(f"key {kid}: its kind is none of {', '.join(ALGORITHMS)}")


def generate(algorithm: Algorithm, kid: str) -> str:
    """A new key as one entry of the text form, private half included."""
    if algorithm == "HS256":
        return f"{kid}:HS256:{base64.b64encode(secrets.token_bytes(_MIN_SECRET_BYTES)).decode()}"
    key: _PrivateKey
    match algorithm:
        case "ES256":
            key = generate_private_key(SECP256R1())
        case "RS256":
            key = generate_rsa(public_exponent=65537, key_size=3072)
        case "EdDSA":
            key = Ed25519PrivateKey.generate()
    der = key.private_bytes(pem.Encoding.DER, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    return f"{kid}:{algorithm}:{base64.b64encode(der).decode()}"


def _entries(text: str) -> list[str]:
    return [entry for entry in re.split(r"[,\s]+", text.strip()) if entry]


def _parse_entry(number: int, entry: str) -> TokenKey:
    kid, _, rest = entry.partition(":")
    algorithm, _, material = rest.partition(":")
    if not material:
        raise MalformedKeys(f"entry {number} is not of the form KID:ALG:KEY")
    if not _KID.fullmatch(kid):
        raise MalformedKeys(f"entry {number}: a key id is 1 to 64 letters, digits and any of _ . -")
    if algorithm not in ALGORITHMS:
        raise MalformedKeys(f"key {kid}: the algorithm must be one of {', '.join(ALGORITHMS)}")
    data = _read_file(kid, material[5:]) if material.startswith("file:") else _decode(kid, material)
    if algorithm == "HS256":
        return TokenKey.secret(
            kid, _decode(kid, data.decode("latin-1")) if material.startswith("file:") else data
        )
    key = TokenKey.asymmetric(kid, _load(kid, data))
    if key.algorithm != algorithm:
        raise MalformedKeys(f"key {kid} is said to be for {algorithm}, but is one for {key.algorithm}")
    return key


def _read_file(kid: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MalformedKeys(f"key {kid}: {path} can't be read ({error.strerror or 'not a file'})") from error


def _decode(kid: str, text: str) -> bytes:
    """Strict base64, ordinary or URL-safe. A lenient decoder would make another key of a mistyped one."""
    ordinary = text.strip().replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(
            ordinary + "=" * (-len(ordinary) % 4 if "=" not in ordinary else 0), validate=True
        )
    except (binascii.Error, ValueError) as error:
        raise MalformedKeys(
            f"key {kid}: what follows the algorithm is neither base64 nor file:PATH"
        ) from error


def _load(kid: str, data: bytes) -> PublicKey | _PrivateKey:
    """A PEM or DER key, private or public: whichever reader takes it. The kind is looked at by
    `algorithm_of`.
    """
    is_pem = data.lstrip().startswith(b"-----BEGIN")
    load_private = pem.load_pem_private_key if is_pem else pem.load_der_private_key
    load_public = pem.load_pem_public_key if is_pem else pem.load_der_public_key
    try:
        return cast("_PrivateKey", load_private(data, password=None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass  # not a private key, or one with a passphrase; the second reader refuses the latter too
    try:
        return cast("PublicKey", load_public(data))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedKeys(f"key {kid}: not a PEM or DER key (with a passphrase, none is taken)") from error
