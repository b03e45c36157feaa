"""Where keys come from: the environment, else files in the data directory.

The files are written in the same form as the variables, mode 0600. They are made here only where the
server also makes its own database: beside a database that others share, a key of one's own would lock
everybody else out.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from server.cannot_start import CannotStart
from server.settings import Settings
from server.tokens import MalformedKeys, TokenKeys, generate
from storage.credentials import KeyRing, generate_key

__all__ = ["CREDENTIAL_FILE", "JWT_FILE", "KeysUnusable", "credential_ring", "new_key_id", "token_keys"]

JWT_FILE = "jwt.keys"
CREDENTIAL_FILE = "credential.keys"


class KeysUnusable(CannotStart):
    """Keys that are missing or can't be read. The text says what to do, and never shows key material."""


def token_keys(settings: Settings) -> TokenKeys:
    """The keys that tokens are checked with; none of its own where FREYA_JWKS names the issuer's.

    In embedded mode, one is made at the first call. Raises KeysUnusable.
    """
    given = settings.keys.jwt_keys
    text, origin = _find(
        settings, given.get_secret_value() if given else None, "FREYA_JWT_KEYS", JWT_FILE, _new_token_key
    )
    if text is None and settings.keys.jwks is not None:
        return TokenKeys(())
    if text is None:
        raise KeysUnusable(
            "DATABASE_URL is set, but there is no key to check tokens with.\n"
            "Set FREYA_JWT_KEYS (`python -m server keygen jwt` makes one) or FREYA_JWKS,\n"
            "and FREYA_CREDENTIAL_KEYS (`python -m server keygen credentials`):\n"
            "the same ones on every replica."
        )
    try:
        return TokenKeys.parse(text)
    except MalformedKeys as error:
        raise KeysUnusable(f"{origin}: {error}") from error


def credential_ring(settings: Settings) -> KeyRing:
    """The ring that credentials are encrypted with; an empty one if there is no key. Raises KeysUnusable."""
    given = settings.keys.credential_keys
    text, origin = _find(
        settings,
        given.get_secret_value() if given else None,
        "FREYA_CREDENTIAL_KEYS",
        CREDENTIAL_FILE,
        _new_credential_key,
    )
    if text is None:
        return KeyRing.empty()
    try:
        return KeyRing.parse(text)
    except ValueError as error:
        raise KeysUnusable(f"{origin}: {error}") from error


def new_key_id() -> str:
    """An id that sorts by day and that no other key has."""
    return f"k{datetime.now(UTC):%Y%m%d}{secrets.token_hex(2)}"


def _new_token_key() -> str:
    return generate("HS256", new_key_id())


def _new_credential_key() -> str:
    return generate_key(new_key_id())


def _find(
    settings: Settings, given: str | None, variable: str, file: str, make: Callable[[], str]
) -> tuple[str | None, str]:
    """The text of the keys and where it was found."""
    if given is not None:
        return given, variable
    path = settings.storage.data_dir / file
    try:
        if settings.storage.database_url is None:
            _make(path, make)
        return path.read_text().strip(), str(path)
    except FileNotFoundError:
        return None, variable
    except (OSError, UnicodeDecodeError) as error:
        raise KeysUnusable(f"{path} can't be read or made: {error}") from error


def _make(path: Path, make: Callable[[], str]) -> None:
    """Puts a new key at `path` unless there is a file. Of several processes at once, one wins, whole."""
    if path.exists():
        return
    # Others may pass through (the embedded PostgreSQL may run as another user), but not look around.
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(make() + "\n")
            out.flush()
            os.fsync(out.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
