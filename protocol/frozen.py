"""JSON values that cannot change: what a feed holds, hands out and encodes once.

`freeze` turns plain JSON-like values into dicts and lists that refuse to be changed. They are still
`dict` and `list`, so that every JSON encoder and every reader takes them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from types import NoneType
from typing import Final, Never, TypeAlias, cast, overload

__all__ = [
    "MAX_DEPTH",
    "FrozenDict",
    "FrozenList",
    "JsonObject",
    "JsonValue",
    "NotJson",
    "freeze",
    "freeze_shape",
    "thaw",
]

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
JsonObject: TypeAlias = "Mapping[str, JsonValue]"

# Deeper than any real item or config; far below where encoders and recursive readers give up.
MAX_DEPTH: Final = 64

_TOO_DEEP: Final = f"nested deeper than {MAX_DEPTH} levels"
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


class NotJson(ValueError):
    """A value that has no place in JSON as we carry it. `path` leads to it from the outermost value."""

    def __init__(self, reason: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return f"{where.removeprefix('.')}: {self.reason}" if where else self.reason

    def below(self, part: str | int) -> NotJson:
        """The same complaint, seen from the container that holds the value under `part`."""
        return NotJson(self.reason, (part, *self.path))


class FrozenDict(dict[str, JsonValue]):
    """A dict whose content is as it was made. Build it with `freeze`, which freezes what is inside too."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> Never:
        raise TypeError("a frozen dict cannot be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType] -- it never returns

    def __copy__(self) -> FrozenDict:
        return self

    def __deepcopy__(self, _: object) -> FrozenDict:
        return self

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, JsonValue]]]:
        return FrozenDict, (dict(self),)


class FrozenList(list[JsonValue]):
    """A list whose content is as it was made. Build it with `freeze`, which freezes what is inside too."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> Never:
        raise TypeError("a frozen list cannot be changed")

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse  # pyright: ignore[reportAssignmentType] -- it never returns

    def __copy__(self) -> FrozenList:
        return self

    def __deepcopy__(self, _: object) -> FrozenList:
        return self

    def __reduce__(self) -> tuple[type[FrozenList], tuple[list[JsonValue]]]:
        return FrozenList, (list(self),)


# Types whose values are kept as they are.
_KEPT: Final[frozenset[type]] = frozenset({str, int, bool, NoneType, FrozenDict, FrozenList})


# The way past a frozen dict's own refusal, for this module alone.
_set: Final = dict[str, JsonValue].__setitem__


@overload
def freeze(value: Mapping[str, object]) -> FrozenDict: ...
@overload
def freeze(value: list[object] | tuple[object, ...]) -> FrozenList: ...
@overload
def freeze(value: str) -> str: ...
@overload
def freeze(value: object) -> JsonValue: ...
def freeze(value: object) -> JsonValue:
    """A deep, unchangeable copy of a JSON value; what is frozen already is returned as it is.

    Raises NotJson (a ValueError that names the path) for NaN and infinities, keys that are not strings,
    integers beyond 64 bits, U+0000 and lone surrogates in strings, more than `MAX_DEPTH` levels, and
    everything that JSON does not know.
    """
    return _freeze(value, MAX_DEPTH)


def freeze_shape(value: object) -> JsonValue:
    """As `freeze`, at a third of the cost, for a value that is encoded right after.

    What orjson refuses by itself is left to it (keys that are not strings, integers beyond 64 bits, lone
    surrogates), and so is U+0000, which shows in the bytes. The errors name no path.
    """
    return _shape(value, MAX_DEPTH)


def thaw(value: JsonValue) -> JsonValue:
    """A deep copy in plain dicts and lists, free to be changed."""
    if isinstance(value, Mapping):
        return {key: thaw(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [thaw(inner) for inner in value]
    return value


def _shape(value: object, room: int) -> JsonValue:
    kind = type(value)
    if kind is dict:
        if not room:
            raise NotJson(_TOO_DEEP)
        source = cast("dict[str, JsonValue]", value)
        frozen = FrozenDict(source)
        for key, inner in source.items():
            if type(inner) not in _KEPT:
                _set(frozen, key, _shape(inner, room - 1))
        return frozen
    if kind is float and isfinite(cast("float", value)):
        return cast("float", value)
    if kind is list or kind is tuple:
        if not room:
            raise NotJson(_TOO_DEEP)
        members = cast("Sequence[JsonValue]", value)
        if _KEPT.issuperset(map(type, members)):
            return FrozenList(members)
        return FrozenList([_shape(inner, room - 1) for inner in members])
    return _freeze(value, room)


def _freeze(value: object, room: int) -> JsonValue:
    kind = type(value)
    if kind is str:
        return _text(cast("str", value))
    if value is None or kind is bool or kind is FrozenDict or kind is FrozenList:
        return cast("JsonValue", value)
    if kind is dict:
        return _freeze_dict(cast("Mapping[object, object]", value), room)
    if kind is list or kind is tuple:
        return _freeze_list(cast("Sequence[object]", value), room)
    return _freeze_rare(value, room)


def _freeze_rare(value: object, room: int) -> JsonValue:
    """Numbers, and the subclasses of what JSON knows, reduced to the plain type (an enum to its value)."""
    if isinstance(value, int):
        if _INT_MIN <= value <= _INT_MAX:
            return int(value)
        raise NotJson("an integer beyond 64 bits")
    if isinstance(value, float):
        if isfinite(value):
            return float(value)
        raise NotJson("not a finite number")
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, Mapping):
        return _freeze_dict(cast("Mapping[object, object]", value), room)
    if isinstance(value, (list, tuple)):
        return _freeze_list(cast("Sequence[object]", value), room)
    raise NotJson(f"{type(value).__name__} is not JSON")


def _freeze_dict(value: Mapping[object, object], room: int) -> FrozenDict:
    if not room:
        raise NotJson(_TOO_DEEP)
    frozen: dict[str, JsonValue] = {}
    for key, inner in value.items():
        if not isinstance(key, str):
            raise NotJson(f"a key that is not a string but {type(key).__name__}")
        name = _text(key if type(key) is str else str.__str__(key))
        try:
            frozen[name] = _freeze(inner, room - 1)
        except NotJson as wrong:
            raise wrong.below(name) from None
    return FrozenDict(frozen)


def _freeze_list(value: Sequence[object], room: int) -> FrozenList:
    if not room:
        raise NotJson(_TOO_DEEP)
    frozen: list[JsonValue] = []
    for index, inner in enumerate(value):
        try:
            frozen.append(_freeze(inner, room - 1))
        except NotJson as wrong:
            raise wrong.below(index) from None
    return FrozenList(frozen)


def _text(text: str) -> str:
    if "\0" in text:
        # PostgreSQL cannot store it, in text or in jsonb.
        raise NotJson("U+0000 in a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotJson("a lone surrogate in a string") from None
    return text
