"""Commands run inside the test's process, with settings of their own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No setting but a data directory of this test's own."""
    for name in os.environ:
        if name.startswith("FREYA_") or name in {"DATABASE_URL", "REDIS_URL", "PORT"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("FREYA_DATA_DIR", str(tmp_path / "data"))
    yield tmp_path / "data"
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)
