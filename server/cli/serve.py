"""freya serve: the server, from its start to its orderly end."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from anyio import CancelScope
    from anyio.abc import TaskGroup

    from server.app import App
    from server.settings import Settings

__all__ = ["serve"]

_DEV_USER = "alice"
_DEV_TTL_S = 7 * 86_400.0


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind. [FREYA_HOST; 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; 0: a free one. [PORT; 8080]")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keys and the embedded database. [FREYA_DATA_DIR]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on the one port; needs REDIS_URL. [FREYA_WORKERS; 1]")
    ] = None,
    worker: Annotated[str | None, typer.Option(hidden=True, help="Given by a supervisor.")] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C, which it answers by sending its clients away in order."""
    from server.cli.running import run_async
    from server.log import set_up
    from server.open_files import allow_open_files
    from server.settings import Settings

    allow_open_files()
    settings = Settings.load(host=host, port=port, data_dir=data_dir, workers=workers)
    observing = settings.observing
    set_up(observing.log_level, observing.log_format, salt=observing.log_salt.get_secret_value())
    if worker is not None:
        run_async(lambda: _serve(settings, worker), uvloop=True)
        return
    _warn_of_strangers(settings)
    if settings.listening.workers > 1:
        raise typer.Exit(run_async(lambda: _supervise(settings)))
    run_async(lambda: _serve(settings), uvloop=True)


async def _supervise(settings: Settings) -> int:
    from server.cli.workers import supervise

    secure = settings.listening.tls_cert is not None
    return await supervise(settings, lambda host, port: _announce(settings, host, port, secure=secure))


async def _serve(settings: Settings, worker: str | None = None) -> None:
    import anyio

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with anyio.create_task_group() as group:
            server = _Server(settings, group.cancel_scope)
            group.start_soon(server.heed, signals)
            if worker is None:
                await server.run()
            else:
                await server.run_as_worker(worker, group)
            group.cancel_scope.cancel()


class _Server:
    """One run. The first SIGTERM (or SIGINT) asks it to end in order, the second one not to wait for
    clients, a third one to drop everything.
    """

    def __init__(self, settings: Settings, everything: CancelScope) -> None:
        import anyio

        self._settings = settings
        self._everything = everything
        self._app: App | None = None
        self._asked_to_end = anyio.Event()
        self._patience = anyio.CancelScope()

    async def run(self) -> None:
        from server.app import open_app

        async with open_app(self._settings) as app:
            self._app = app
            host, port = app.addresses[0]
            _announce(self._settings, host, port, secure=app.tls is not None)
            await self._asked_to_end.wait()
            with self._patience:
                await app.drain()

    async def run_as_worker(self, worker: str, group: TaskGroup) -> None:
        """The same among others on one port, for a supervisor that does the talking."""
        from server.app import open_app
        from server.cli.workers import Workplace
        from server.siblings import Siblings

        place = Workplace.parse(worker)
        siblings = Siblings(place.folder, place.slot, self._settings.listening.workers)
        async with open_app(self._settings, siblings=siblings) as app:
            self._app = app
            group.start_soon(place.follow, self._asked_to_end.set)
            await self._asked_to_end.wait()
            with self._patience:
                await app.drain()

    async def heed(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for number in signals:
            if number is signal.SIGHUP:
                self._reload()
            elif self._app is None or self._patience.cancel_called:
                self._everything.cancel()
            elif self._asked_to_end.is_set():
                self._patience.cancel()
            else:
                self._asked_to_end.set()

    def _reload(self) -> None:
        import structlog

        from server.options import CertificateUnusable

        try:
            if self._app is not None:
                self._app.reload_certificate(self._settings)
        except CertificateUnusable as error:
            structlog.get_logger().error("certificate_not_reloaded", reason=str(error))


def _announce(settings: Settings, host: str, port: int, *, secure: bool) -> None:
    """Where it is and what to try; with a token only where nobody but this machine's user reads and comes
    in.
    """
    from server.options import is_loopback

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    s = "s" if secure else ""
    lines = ["", "Freya Push is ready.", ""]
    if is_loopback(host) and settings.storage.database_url is None:
        url = "" if port == settings.__class__.load().listening.port else f" --url ws{s}://{place}"
        command = _own_command()
        lines += [
            f"  Dashboard  http{s}://{place}/#token={_dev_token(settings)}",
            f"             (as {_DEV_USER}, with every scope, for a week)",
            f"  Socket     ws{s}://{place}/v1/feed",
            "",
            "Try, in a second terminal, and then in a third:",
            f"  {command} watch {_DEV_USER}{url}",
            f"  {command} publish {_DEV_USER} --title 'Hello from a backend'{url}",
        ]
    else:
        lines += [f"  Socket     ws{s}://{place}/v1/feed"]
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


def _dev_token(settings: Settings) -> str:
    from protocol.ids import UserId
    from server.cli.token import SCOPES
    from server.keys import token_keys
    from server.options import token_options
    from server.tokens import mint

    now = datetime.now(UTC)
    keys, options = token_keys(settings), token_options(settings)
    return mint(keys, UserId(_DEV_USER), now=now, ttl_s=_DEV_TTL_S, scopes=SCOPES, options=options)


def _own_command() -> str:
    """How this program was called, as one would type it here."""
    if Path(sys.argv[0]).name == "freya":
        return "freya"
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f"{python} -m server"


def _warn_of_strangers(settings: Settings) -> None:
    import structlog

    for sentence in settings.unknown():
        structlog.get_logger().warning("unknown_setting", reason=sentence)
