"""python -m server"""

from __future__ import annotations

__all__: list[str] = []

if __name__ == "__main__":
    # Here and not above: a worker process looks at its parent's main module, and needs none of this.
    from server.cli import main

    main()
