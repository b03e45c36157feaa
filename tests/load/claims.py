"""What must hold of a result: `age_p99_ms<10,missing=0`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["ClaimError", "failed"]

_CLAIM: Final = re.compile(r"\s*(\w+)\s*(<=|>=|<|>|=)\s*(-?\d+(?:\.\d+)?)\s*")
_HOLDS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


class ClaimError(Exception):
    """A claim that can't be read, or that speaks of a figure that was not measured."""


def failed(claims: str, figures: Mapping[str, float]) -> list[str]:
    """Those of the comma-separated claims that don't hold, with what was found. Raises ClaimError."""
    wrong: list[str] = []
    for claim in filter(None, claims.split(",")):
        found = _CLAIM.fullmatch(claim)
        if found is None:
            raise ClaimError(f"{claim!r} is not of the form NAME<NUMBER (or <=, >, >=, =)")
        name, relation, number = found.groups()
        if name not in figures:
            raise ClaimError(f"there is no figure {name!r}; there are {', '.join(sorted(figures))}")
        if not _HOLDS[relation](figures[name], float(number)):
            wrong.append(f"{claim.strip()} (it is {figures[name]:g})")
    return wrong
