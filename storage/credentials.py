"""Credentials at rest: sealed with AES-256-GCM under a key ring, bound to the row they stand in.

A sealed blob is: one byte 0x01 (the format), one byte length of the key id, the key id in ASCII, a random
nonce of 96 bits, the ciphertext with its 128-bit tag. The associated data names the user and the source, so
a blob moved to another row does not open. 2^32 blobs under one key are safe with random nonces (NIST SP
800-38D, 8.3).

The ring's first key seals, all of them open; `rotate` brings what older keys sealed under the first.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, cast

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from storage.connection import Row
from storage.database import Database
from storage.errors import CredentialKeyMissing, CredentialsUnreadable

__all__ = ["KeyRing", "RotationProgress", "generate_key", "key_id_of", "rotate"]

_FORMAT: Final = 1
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")


class KeyRing:
    """The keys, first the one that seals. Immutable; never prints what it holds."""

    __slots__ = ("_ciphers", "_first")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._first = next(iter(keys), None)

    @classmethod
    def empty(cls) -> Self:
        """A ring without a key: it seals nothing and opens nothing."""
        return cls({})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `id:base64,id2:base64`, each key 32 bytes in padded base64.

        Raises ValueError with a sentence that names the entry by its place and never shows any of it.
        """
        keys: dict[str, bytes] = {}
        for place, entry in enumerate(text.split(","), start=1):
            key_id, colon, encoded = entry.strip().partition(":")
            if not colon or not _KEY_ID.fullmatch(key_id):
                raise ValueError(
                    f"credential key {place} is not written as ID:BASE64 (ID: up to 32 of A-Z a-z 0-9 _ . -)"
                )
            if key_id in keys:
                raise ValueError(f"credential key {place} has the id of an earlier one")
            keys[key_id] = _decode_key(encoded, place)
        return cls(keys)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids, first the one that seals."""
        return tuple(self._ciphers)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._ciphers)})"

    def encrypt(self, user: UserId, source: SourceId, value: JsonValue) -> bytes:
        """Seal a user's credentials for one source. Raises CredentialKeyMissing where the ring is empty."""
        return self._seal(_user_row(user, source), value)

    def decrypt(self, user: UserId, source: SourceId, blob: bytes) -> JsonValue:
        """Open what `encrypt` sealed for the same user and source. Raises CredentialsUnreadable."""
        return self._open(_user_row(user, source), blob)

    def encrypt_settings(self, source: SourceId, value: JsonValue) -> bytes:
        """The same for what an operator set for a source; opens only as that."""
        return self._seal(_settings_row(source), value)

    def decrypt_settings(self, source: SourceId, blob: bytes) -> JsonValue:
        return self._open(_settings_row(source), blob)

    def prefix(self) -> bytes:
        """How a blob begins that the first key sealed. Raises CredentialKeyMissing."""
        if self._first is None:
            raise CredentialKeyMissing
        return bytes((_FORMAT, len(self._first))) + self._first.encode()

    def _seal(self, row: bytes, value: JsonValue) -> bytes:
        prefix = self.prefix()
        assert self._first is not None
        nonce = os.urandom(_NONCE_BYTES)
        return prefix + nonce + self._ciphers[self._first].encrypt(nonce, orjson.dumps(value), row)

    def _open(self, row: bytes, blob: bytes) -> JsonValue:
        key_id = key_id_of(blob)
        cipher = None if key_id is None else self._ciphers.get(key_id)
        if cipher is None or key_id is None:
            raise CredentialsUnreadable
        sealed_at = 2 + len(key_id) + _NONCE_BYTES
        try:
            plain = cipher.decrypt(blob[2 + len(key_id) : sealed_at], blob[sealed_at:], row)
        except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce and a tag
            raise CredentialsUnreadable from error
        return cast("JsonValue", orjson.loads(plain))


def key_id_of(blob: bytes) -> str | None:
    """Under which key a blob was sealed; None where it is none of ours."""
    if len(blob) < 2 or blob[0] != _FORMAT:
        return None
    key_id = blob[2 : 2 + blob[1]].decode("ascii", "replace")
    return key_id if len(key_id) == blob[1] and _KEY_ID.fullmatch(key_id) else None


def generate_key(key_id: str) -> str:
    """A new random key, as `KeyRing.parse` reads it. Raises ValueError for an id it would not read."""
    if not _KEY_ID.fullmatch(key_id):
        raise ValueError("a key id is up to 32 of A-Z a-z 0-9 _ . -")
    return f"{key_id}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"


def _decode_key(encoded: str, place: int) -> bytes:
    try:
        key = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(f"credential key {place} is not base64") from None
    # The decoder accepts more than one spelling of the same bytes: one that differs was mistyped.
    if base64.b64encode(key).decode() != encoded:
        raise ValueError(f"credential key {place} is not base64")
    if len(key) != _KEY_BYTES:
        raise ValueError(f"credential key {place} is {len(key)} bytes long, not {_KEY_BYTES}")
    return key


def _user_row(user: UserId, source: SourceId) -> bytes:
    # With the length in front no two pairs give the same bytes.
    name = user.encode()
    return b"freya-push credentials %d:%b:%b" % (len(name), name, source.encode())


def _settings_row(source: SourceId) -> bytes:
    return b"freya-push settings %b" % source.encode()


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """`rotated` and `unreadable` count the rows of this run so far; `left` the rows not under the first key,
    by the id of the key that sealed them ("?" for what is none of ours)."""

    rotated: int
    unreadable: int
    left: Mapping[str, int]


async def rotate(database: Database, ring: KeyRing, *, batch: int = 500) -> AsyncGenerator[RotationProgress]:
    """Seal everything anew that is not under the ring's first key: users' credentials, then settings.

    Yields at the start, after each batch, and at the end with rows counted anew. Stop it anywhere and run it
    again: what is done is done. A row that does not open is left alone and counted. No version or seq
    changes, since no value does; a row that is written meanwhile keeps what was written. Raises
    CredentialKeyMissing and StorageUnavailable.
    """
    prefix = ring.prefix()
    left = await _count_left(database, prefix)
    rotated = unreadable = 0
    yield RotationProgress(rotated, unreadable, dict(left))
    for table in (_CONFIGS, _SETTINGS):
        after: list[object] = [""] * len(table.key)
        while rows := await database.fetch(table.next_rows, prefix, batch, *after):
            after = list(rows[-1])[: len(table.key)]
            fresh = [entry for entry in (table.resealed(ring, row) for row in rows) if entry is not None]
            unreadable += len(rows) - len(fresh)
            for changed in await database.run(table.replace, *_columns(fresh, len(table.key) + 2)):
                left[_named(changed[0])] -= 1
                rotated += 1
            yield RotationProgress(rotated, unreadable, dict(+left))
    yield RotationProgress(rotated, unreadable, dict(await _count_left(database, prefix)))


async def _count_left(database: Database, prefix: bytes) -> Counter[str]:
    left: Counter[str] = Counter()
    for begin, count in await database.fetch(_LEFT, prefix):
        left[_named(begin)] += count
    return left


def _named(blob: bytes) -> str:
    return key_id_of(blob) or "?"


def _columns(entries: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[entry[place] for entry in entries] for place in range(width)]


class _Table:
    """One table that holds sealed blobs, and the statements that walk it by its key."""

    def __init__(self, name: str, key: tuple[str, ...], blob: str) -> None:
        self.key = key
        columns = ", ".join(key)
        places = ", ".join(f"${place}" for place in range(3, 3 + len(key)))
        arrays = ", ".join(f"${place}::text[]" for place in range(1, 1 + len(key)))
        same = " AND ".join(f"stored.{part} = fresh.{part}" for part in key)
        self.next_rows = f"""
            SELECT {columns}, {blob} FROM {name}
            WHERE substring({blob} FOR length($1::bytea)) <> $1 AND ({columns}) > ({places})
            ORDER BY {columns} LIMIT $2"""
        # Only where it still is what was opened: whoever wrote meanwhile wrote the truth.
        self.replace = f"""
            UPDATE {name} AS stored SET {blob} = fresh.sealed
            FROM unnest({arrays}, ${len(key) + 1}::bytea[], ${len(key) + 2}::bytea[])
                AS fresh ({columns}, opened, sealed)
            WHERE {same} AND stored.{blob} = fresh.opened
            RETURNING fresh.opened"""

    def resealed(self, ring: KeyRing, row: Row) -> tuple[object, ...] | None:
        """Key, old blob and new blob; None where the old one does not open."""
        *key, blob = row
        try:
            if len(key) == 1:
                return (*key, blob, ring.encrypt_settings(key[0], ring.decrypt_settings(key[0], blob)))
            return (*key, blob, ring.encrypt(key[0], key[1], ring.decrypt(key[0], key[1], blob)))
        except CredentialsUnreadable:
            return None


_CONFIGS: Final = _Table("user_source_config", ("user_id", "source_id"), "credentials")
_SETTINGS: Final = _Table("provider_settings", ("source_id",), "settings")
# As much of a blob as tells its key.
_LEFT: Final = """
    SELECT begin, count(*) FROM (
        SELECT CASE WHEN length(blob) >= 2 THEN substring(blob FOR 2 + get_byte(blob, 1)) ELSE blob END
        FROM (
            SELECT credentials FROM user_source_config WHERE credentials IS NOT NULL
            UNION ALL SELECT settings FROM provider_settings
        ) AS sealed (blob)
    ) AS begun (begin)
    WHERE begin <> $1
    GROUP BY begin"""
