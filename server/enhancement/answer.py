"""What a model may answer: one pydantic model per question, both the JSON Schema that is sent and the check
of what comes back. Pure.

The schema names the very items and slots that were asked for, so a strict endpoint cannot say anything else,
and whatever an endpoint says all the same is cut down to them here. Text is cleaned and shortened, never
refused: one bad fill must not cost the good ones.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    create_model,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from server.enhancement.request import PassRequest

__all__ = [
    "MOST_SYNTHETIC",
    "NoAnswer",
    "PassAnswer",
    "Synthetic",
    "SyntheticType",
    "answer_model",
    "clean",
    "read_answer",
    "schema_of",
]

SyntheticType = Literal["briefing", "nudge", "insight"]

MOST_SYNTHETIC: Final = 3
_MOST_FILL: Final = 280  # characters: two short sentences
_MOST_SYNTHETIC_TEXT: Final = 600
_MOST_ANSWER: Final = 256 * 1024
_MOST_STARTS: Final = 64  # braces tried while looking for the object in prose

T = TypeVar("T")


class NoAnswer(Exception):
    """What came back holds no object of the right shape."""


@dataclass(frozen=True, slots=True)
class Synthetic:
    """An item that the model made up; `id` is local."""

    id: str
    type: SyntheticType
    text: str


@dataclass(frozen=True, slots=True)
class PassAnswer:
    """Clean texts, for slots that were asked for only."""

    fills: Mapping[str, Mapping[str, str]]
    synthetic: tuple[Synthetic, ...]


def clean(text: str, most: int) -> str | None:
    """One line of printable text of at most `most` characters, cut at a word; None if nothing is left.

    Control and format characters go (C0, C1, bidi overrides, zero-width marks), since they could hide or turn
    round what the reader sees.
    """
    spaced = "".join(" " if char.isspace() else char for char in text[: most * 4])
    printable = "".join(char for char in spaced if unicodedata.category(char) not in _UNSEEN)
    line = " ".join(printable.split())
    if len(line) > most:
        head, _, _ = line[: most - 1].rpartition(" ")
        line = (head or line[: most - 1]).rstrip(" ,;:.") + "…"
    return line or None


_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _clean_fill(value: object) -> object:
    return clean(value, _MOST_FILL) if isinstance(value, str) else None


def _clean_synthetic_text(value: object) -> object:
    return clean(value, _MOST_SYNTHETIC_TEXT) if isinstance(value, str) else value


def _local_id(value: object) -> object:
    return (
        re.sub(r"[^a-z0-9]+", "-", value.lower()[:200]).strip("-")[:40] if isinstance(value, str) else value
    )


def _or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return None


class _Answer(BaseModel):
    # Unknown members are dropped; the schema says that there are none, as strict endpoints demand.
    model_config = ConfigDict(extra="ignore", json_schema_extra={"additionalProperties": False})


class _Synthetic(_Answer):
    id: Annotated[
        str, BeforeValidator(_local_id), Field(min_length=1, description="a short name, such as day-ahead")
    ]
    type: SyntheticType
    text: Annotated[str, BeforeValidator(_clean_synthetic_text)]


_Fill = Annotated[str | None, BeforeValidator(_clean_fill)]
_SyntheticOrNone = Annotated[_Synthetic, WrapValidator(_or_none)]


def _listed(value: object) -> object:
    return cast("list[object]", value)[: MOST_SYNTHETIC * 4] if isinstance(value, list) else []


def _mapped(value: object) -> object:
    return cast("object", value) if isinstance(value, dict) else {}


def answer_model(request: PassRequest) -> type[BaseModel]:
    """The model of the answer to `request`: its items and slots by name, and the made-up items."""
    items: dict[str, Any] = {}
    for number, one in enumerate(request.open_items):
        slots: dict[str, Any] = {
            # Names on the wire may be anything; inside they are numbers.
            f"slot_{place}": (_Fill, Field(default=None, alias=name, description=description[:500]))
            for place, (name, description) in enumerate(one.slots.items())
        }
        shape = create_model(f"Item{number}", __base__=_Answer, **slots)
        items[f"item_{number}"] = (
            Annotated[shape, BeforeValidator(_mapped)],
            Field(default_factory=shape, alias=one.item.id),
        )
    fills = create_model("SlotFills", __base__=_Answer, **items)
    members: dict[str, Any] = {
        "slot_fills": (
            Annotated[fills, BeforeValidator(_mapped)],
            Field(default_factory=fills, alias="slotFills"),
        ),
        "synthetic_items": (
            Annotated[list[_SyntheticOrNone], BeforeValidator(_listed)],
            Field(default_factory=list, alias="syntheticItems"),
        ),
    }
    return create_model("Answer", __base__=_Answer, **members)


class _Strict(GenerateJsonSchema):
    """Every member required and no defaults: what structured output asks for. Reading stays lenient."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return True

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of an answer model, in the strict subset that structured output takes."""
    return model.model_json_schema(by_alias=True, schema_generator=_Strict)


def read_answer(text: str, request: PassRequest, model: type[BaseModel]) -> PassAnswer:
    """The answer in `text`: JSON alone, fenced, or amid prose. Raises NoAnswer."""
    try:
        answer = model.model_validate(_find_object(text[:_MOST_ANSWER]))
    except ValidationError as wrong:
        raise NoAnswer from wrong
    given = answer.model_dump()
    fills: dict[str, dict[str, str]] = {}
    for number, one in enumerate(request.open_items):
        slots = given["slot_fills"][f"item_{number}"]
        texts = {name: slots[f"slot_{place}"] for place, name in enumerate(one.slots)}
        filled = {name: content for name, content in texts.items() if content is not None}
        if filled:
            fills[one.item.id] = filled
    return PassAnswer(fills, _synthetic(given["synthetic_items"]))


def _synthetic(given: list[dict[str, Any] | None]) -> tuple[Synthetic, ...]:
    kept: dict[str, Synthetic] = {}
    for one in given:
        if one is not None and one["id"] not in kept and len(kept) < MOST_SYNTHETIC:
            kept[one["id"]] = Synthetic(one["id"], one["type"], one["text"])
    return tuple(kept.values())


def _find_object(text: str) -> object:
    decoder = json.JSONDecoder()
    place = -1
    for _ in range(_MOST_STARTS):
        place = text.find("{", place + 1)
        if place < 0:
            break
        try:
            found, _ = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and ("slotFills" in found or "syntheticItems" in found):
            return cast("object", found)
    raise NoAnswer
