"""What can go wrong with what is stored, as the rest of the house sees it. No error of the driver passes.

StorageError
+-- StorageUnavailable      the world: the database does not answer (`outcome` says what became of the write)
+-- SchemaTooNew            us: this code is too old for the database
+-- MigrationNeeded         us: the database is too old for this code
+-- VersionMismatch         the caller: its `ifVersion` is not the current one
+-- NoRow                   the caller: what it wants to change is not there
+-- LimitReached            the caller: a user may have only so many
+-- CredentialKeyMissing    us: no key to encrypt with
+-- CredentialsUnreadable   us: no key that opens it, or not what was sealed
Unchanged                   not a failure: the write changed nothing and is taken back
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = [
    "CredentialKeyMissing",
    "CredentialsUnreadable",
    "EmbeddedPostgresFailed",
    "LimitReached",
    "MigrationNeeded",
    "NoRow",
    "Outcome",
    "SchemaTooNew",
    "StorageError",
    "StorageUnavailable",
    "Unchanged",
    "VersionMismatch",
]

Outcome: TypeAlias = Literal["none", "unknown"]


class StorageError(Exception):
    """Anything the store refuses or cannot do. The text is safe to show: no SQL, address or secret in it."""


class StorageUnavailable(StorageError):
    """The database did not answer in time, or at all.

    `outcome` is "none" where nothing was written, "unknown" where a commit may have happened and its fate
    could not be learnt: then read before repeating. `reason` is a few words for the log and the operator.
    """

    def __init__(self, outcome: Outcome = "none", reason: str = "the database does not answer") -> None:
        super().__init__(outcome, reason)
        self.outcome: Outcome = outcome
        self.reason = reason

    def __str__(self) -> str:
        tail = "" if self.outcome == "none" else "; whether the last write was committed is unknown"
        return f"storage unavailable: {self.reason}{tail}"


class SchemaTooNew(StorageError):
    """A newer release migrated the database to where this code cannot follow."""

    def __init__(self, found: int, oldest: int, known: int) -> None:
        super().__init__(found, oldest, known)
        self.found = found
        self.oldest = oldest
        self.known = known

    def __str__(self) -> str:
        return (
            f"the database is at schema {self.found}, which serves code that knows at least schema "
            f"{self.oldest}; this code knows schema {self.known}: start a newer release"
        )


class MigrationNeeded(StorageError):
    """The database is older than this code, or empty."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(found, known)
        self.found = found
        self.known = known

    def __str__(self) -> str:
        return (
            f"the database is at schema {self.found}, this code needs schema {self.known}: "
            "run `python -m server migrate`"
        )


class EmbeddedPostgresFailed(StorageError):
    """The embedded PostgreSQL cannot be made, started or reached. The text says why and what to do."""


class VersionMismatch(StorageError):
    """A conditional write met another version. `current` is the stored one; 0 means there is no row."""

    def __init__(self, current: int) -> None:
        super().__init__(current)
        self.current = current

    def __str__(self) -> str:
        return f"the stored version is {self.current}"


class NoRow(StorageError):
    """There is nothing stored under that name."""


class LimitReached(StorageError):
    """A user may have at most `maximum` of `limit`."""

    def __init__(self, limit: str, maximum: int) -> None:
        super().__init__(limit, maximum)
        self.limit = limit
        self.maximum = maximum

    def __str__(self) -> str:
        return f"at most {self.maximum} {self.limit}"


class CredentialKeyMissing(StorageError):
    """There is no key to encrypt credentials with, so nothing was stored."""

    def __str__(self) -> str:
        return "no credential key is configured"


class CredentialsUnreadable(StorageError):
    """The stored credentials do not open with any key we have. The row is left as it is."""

    def __str__(self) -> str:
        return "credentials can't be read; connect again"


class Unchanged(Exception):
    """Raised inside `Database.write` by who finds that there is nothing to change.

    The transaction is rolled back, so that the user's seq is not raised, and the exception goes on to
    the caller of the write, who takes the answer from `value`.
    """

    def __init__(self, value: object = None) -> None:
        super().__init__(value)
        self.value = value
