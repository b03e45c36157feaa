"""The commands by name, and what an error looks like at a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from server.cli import doctor, explain, keygen, migrate, publish, rotate_keys, serve, token, watch
from server.cli.stop import Stop
from server.log import set_up
from server.settings import SettingsError

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="freya",
    help="Freya Push: every user has one live feed, pushed over a WebSocket.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (
    serve.serve,
    watch.watch,
    publish.publish,
    explain.explain,
    doctor.doctor,
    token.token,
    keygen.keygen,
    migrate.migrate,
    rotate_keys.rotate_keys,
):
    app.command()(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and leaves the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code. What it has to say about an error goes to standard error."""
    set_up("warning")
    try:
        app(args=None if arguments is None else list(arguments), prog_name="freya")
    except SettingsError as error:
        return _say(
            "these settings can't be used:\n" + "\n".join(f"  {line}" for line in str(error).splitlines()), 2
        )
    except Stop as stop:
        return _say(stop.message, stop.code)
    except BrokenPipeError:  # `freya token --users … | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"freya: {message}\n")
    return code
