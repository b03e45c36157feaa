"""The vectors, as the tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

__all__ = ["HERE", "cases"]

HERE = Path(__file__).parent


def cases(file: str) -> pytest.MarkDecorator:
    """Each case of a file as a test's `case`, under its name."""
    found: list[dict[str, Any]] = orjson.loads((HERE / file).read_bytes())
    names = [case["name"] for case in found]
    assert len(set(names)) == len(names), f"{file} has two cases of one name"
    return pytest.mark.parametrize("case", found, ids=names)
