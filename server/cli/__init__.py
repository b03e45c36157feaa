"""The command line: `python -m server COMMAND`, or `freya COMMAND` where the package is installed.

A module a command. Each imports what it needs when it runs, so that `token` starts as quickly as it can.
"""

from __future__ import annotations

from server.cli.main import main

__all__ = ["main"]
