"""A real Chromium for the tests of the dashboard: the one of the system, or none and a loud skip."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

__all__ = ["chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_PLACES = (
    "/usr/lib/chromium/chromium",
    "/usr/lib64/chromium-browser/chromium-browser",
    "/snap/bin/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def chromium() -> Path:
    """Its program: CHROMIUM, or one on PATH, or where systems put it. Skips the test where there is none."""
    named = os.environ.get("CHROMIUM")
    found = [named] if named else [shutil.which(name) for name in _NAMES]
    for path in (*found, *_PLACES):
        if path is not None and Path(path).exists():
            return Path(path)
    pytest.skip("NO BROWSER: the dashboard goes unchecked. `make browser` installs Chromium on Debian.")
