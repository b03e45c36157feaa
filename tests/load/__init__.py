"""The load driver: real sockets from processes of their own, an open-loop schedule, and every frame checked.

    python -m tests.load steady --connections 1000 --rate 1 --seconds 30

See docs/performance.md. From the command line down: `__main__` -> `scenarios` -> `fleet` (the driver's
processes) and `target` (the server and what it costs) -> `worker` (one process) -> `link` (one socket) and
`following` (what is received, and whether it is right).
"""

from __future__ import annotations

__all__: list[str] = []
