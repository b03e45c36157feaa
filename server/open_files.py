"""How many files and sockets the process may have open.

A shell hands on a soft limit of 1,024 nearly everywhere, which is for programs that use `select`; the hard
limit is what the system really allows (getrlimit(2)).
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

__all__ = ["allow_open_files", "most_open_files"]

# Where a system sets no bound, programs that we start would close descriptors up to it one by one.
_PLENTY: Final = 1_048_576


def most_open_files() -> int:
    """So many the server will be able to have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_counted(soft), min(_counted(hard), _PLENTY))


def allow_open_files() -> None:
    """Raises the soft limit to what the system allows, for this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a system may say more than it grants: then it stays as it was
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_open_files(), hard))


def _counted(limit: int) -> int:
    return _PLENTY if limit == resource.RLIM_INFINITY else limit
