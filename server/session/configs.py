"""What a client asks of a source's row, worked out without touching anything: merge, validate, decide.

Pure: the same functions serve a write under the lock, a verified write beside it, and a preview.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, cast

import orjson
from pydantic import BaseModel, ValidationError

from protocol.errors import InvalidCredentials, InvalidSourceConfig, Issue, SourceNotFound, VersionConflict
from protocol.frozen import JsonObject, JsonValue
from server.sources.provider import AnyProvider
from storage.source_configs import SourceConfigRow

__all__ = [
    "Change",
    "GivenCredentials",
    "Plan",
    "Stored",
    "issues_of",
    "merge_patch",
    "plan_change",
    "read_config",
    "read_credentials",
]

# Patches of a row may add up; a row is read with every session of its user.
_MAX_CONFIG_BYTES: Final = 64 * 1024
# A form has fewer fields than that; an endless list of mistakes helps nobody.
_MAX_ISSUES: Final = 50
_VALUE_ERROR: Final = "Value error, "


class Stored(Enum):
    """What becomes of the credentials that are stored, where none are given."""

    KEEP = "keep"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class GivenCredentials:
    """Credentials that came with a request: as they came, which is stored, and as the source sees them.

    Not the model's own dump, since that hides what it holds secret.
    """

    raw: JsonObject
    model: BaseModel

    def __repr__(self) -> str:
        return "GivenCredentials(...)"


_Credentials: TypeAlias = GivenCredentials | Stored


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked of one row. A member that is None was not given."""

    enabled: bool | None = None
    config: JsonObject | None = None
    credentials: JsonValue = None
    if_version: int | None = None
    replaces: bool = False
    """Whether `config` takes the place of the stored one, and a missing row is made: `source.put`."""

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing but to look whether the row is there."""
        return self.enabled is None and self.config is None and self.credentials is None and not self.replaces

    def __repr__(self) -> str:
        return f"Change(enabled={self.enabled}, if_version={self.if_version}, replaces={self.replaces})"


@dataclass(frozen=True, slots=True)
class Plan:
    """A row as it is going to be."""

    enabled: bool
    config: dict[str, JsonValue]
    """As it is stored: coerced, without what the client left to the defaults."""
    model: BaseModel
    """The same as the provider takes it."""
    credentials: _Credentials


def plan_change(provider: AnyProvider, row: SourceConfigRow | None, change: Change) -> Plan:
    """The row after `change`.

    Raises VersionConflict, SourceNotFound (no row to change), InvalidSourceConfig and InvalidCredentials;
    in that order, so that a form with an old version hears of that first.
    """
    version = 0 if row is None else row.version
    if change.if_version is not None and change.if_version != version:
        raise VersionConflict(provider.source_id, version)
    if row is None and not change.replaces:
        raise SourceNotFound(provider.source_id, reason="noRow")
    old: JsonObject = {} if row is None else row.config
    model, config = read_config(provider, _wanted_config(old, change))
    given = read_credentials(provider, change.credentials)
    return Plan(
        enabled=_wanted_enabled(row, change),
        config=config,
        model=model,
        credentials=given or _stored_credentials(provider, old, model, row is None),
    )


def merge_patch(target: JsonValue, patch: JsonValue) -> JsonValue:
    """JSON Merge Patch, RFC 7396, section 2. Changes neither argument; the result may share their parts."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def read_config(provider: AnyProvider, config: JsonObject) -> tuple[BaseModel, dict[str, JsonValue]]:
    """Validates a whole config: as the provider takes it, and as it is stored. Raises InvalidSourceConfig."""
    encoded = orjson.dumps(config)
    if len(encoded) > _MAX_CONFIG_BYTES:
        raise InvalidSourceConfig(provider.source_id, [Issue((), f"larger than {_MAX_CONFIG_BYTES} bytes")])
    try:
        # From JSON, since that is where it was born: dates are strings there, also for strict models.
        model = provider.config_schema.model_validate_json(encoded)
    except ValidationError as error:
        raise InvalidSourceConfig(provider.source_id, issues_of(error, config)) from None
    stored = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return model, cast("dict[str, JsonValue]", stored)


def read_credentials(provider: AnyProvider, credentials: JsonValue) -> GivenCredentials | None:
    """Validates credentials as they came; None for none. Raises InvalidCredentials, never naming a value."""
    if credentials is None:
        return None
    if provider.credentials_schema is None:
        raise InvalidCredentials(provider.source_id, [Issue((), "this source takes no credentials")])
    if not isinstance(credentials, Mapping):
        raise InvalidCredentials(provider.source_id, [Issue((), "not an object")])
    try:
        model = provider.credentials_schema.model_validate_json(orjson.dumps(credentials))
    except ValidationError as error:
        raise InvalidCredentials(provider.source_id, issues_of(error, credentials)) from None
    return GivenCredentials(credentials, model)


def issues_of(error: ValidationError, value: JsonValue) -> list[Issue]:
    """Each mistake with the path to it in `value`, which is what was validated."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        Issue(_path(each["loc"], value), each["msg"].removeprefix(_VALUE_ERROR))
        for each in found[:_MAX_ISSUES]
    ]


def _path(location: tuple[int | str, ...], value: JsonValue) -> tuple[int | str, ...]:
    """Pydantic's location without the steps that are not in the JSON: union members, names of validators."""
    path: list[int | str] = []
    last = len(location) - 1
    for index, part in enumerate(location):
        if isinstance(value, Mapping) and isinstance(part, str) and (part in value or index == last):
            path.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return tuple(path)


def _wanted_config(old: JsonObject, change: Change) -> JsonObject:
    if change.replaces:
        return change.config or {}
    return old if change.config is None else cast("JsonObject", merge_patch(old, change.config))


def _wanted_enabled(row: SourceConfigRow | None, change: Change) -> bool:
    if change.enabled is not None:
        return change.enabled
    return row is not None and row.enabled


def _stored_credentials(provider: AnyProvider, old: JsonObject, new: BaseModel, is_new: bool) -> Stored:
    """Credentials go with the address they were given for: they are never sent to another one."""
    if is_new or not provider.credential_targets:
        return Stored.KEEP
    try:
        before = provider.config_schema.model_validate_json(orjson.dumps(old))
    except ValidationError:
        # A row of an earlier schema. Where its credentials were meant for, nobody can say.
        return Stored.DROP
    was = before.model_dump(mode="json", by_alias=True)
    now = new.model_dump(mode="json", by_alias=True)
    same = all(was.get(name) == now.get(name) for name in provider.credential_targets)
    return Stored.KEEP if same else Stored.DROP
