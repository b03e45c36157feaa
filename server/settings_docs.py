"""`docs/configuration.md`, written from the settings themselves: python -m server.settings_docs > FILE."""

from __future__ import annotations

import sys
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from server.settings import Group, Settings, variable

__all__ = ["render"]

_INTRODUCTION = """\
# Configuration

Every setting is an environment variable. A mistake stops the start with exit code 2 and one line for each
variable that can't be used; a misspelt `FREYA_` variable is named in the log. Empty means not set. Lists
are separated by commas, switches are `1` or `0`. `python -m server doctor` says what a set of them would
lead to.

This page is generated from `server/settings.py`.
"""


def render() -> str:
    """The whole page."""
    sections = (_section(group) for group in Settings.groups().values())
    return _INTRODUCTION + "".join(sections)


def _section(group: type[Group]) -> str:
    rows = "\n".join(_row(name, info) for name, info in group.model_fields.items())
    head = "| variable | default | values | what it does |\n| --- | --- | --- | --- |"
    return f"\n## {group.title}\n\n{(group.__doc__ or '').strip()}\n\n{head}\n{rows}\n"


def _row(name: str, info: FieldInfo) -> str:
    cells = (f"`{variable(name, info)}`", _default(info), _values(info), info.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(info: FieldInfo) -> str:
    default: object = info.default
    match default:
        case None | () | "":
            return ""
        case SecretStr():
            return ""
        case bool() as switch:
            return f"`{int(switch)}`"
        case tuple():
            return f"`{','.join(cast('tuple[str, ...]', default))}`"
        case Path() as path:
            return f"`{path}`"
        case value:
            return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _values(info: FieldInfo) -> str:
    kinds = [kind for kind in (get_args(info.annotation) or (info.annotation,)) if kind is not NoneType]
    extra = cast("dict[str, str]", info.json_schema_extra)
    unit = extra["unit"]
    words = [_range(info), unit]
    if all(isinstance(kind, str) for kind in kinds):
        words = [", ".join(f"`{kind}`" for kind in kinds)]
    elif kinds == [bool]:
        words = ["`0`, `1`"]
    return " ".join(word for word in words if word)


def _range(info: FieldInfo) -> str:
    bounds: dict[str, Any] = {}
    for entry in info.metadata:
        for name in ("ge", "gt", "le"):
            if getattr(entry, name, None) is not None:
                bounds[name] = getattr(entry, name)
    low = f"from {bounds['ge']:,}" if "ge" in bounds else f"over {bounds['gt']:,}" if "gt" in bounds else ""
    high = f"to {bounds['le']:,}" if "le" in bounds else ""
    return " ".join(part for part in (low, high) if part)


if __name__ == "__main__":
    sys.stdout.write(render())
