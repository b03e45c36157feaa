"""Where the time of one request goes: its transaction, the sources it swaps, the push of what came of it.

Off unless something is installed (`server.otel` is, where FREYA_OTLP_URL is set); then every call here costs
a comparison. A request begins a trail. Whatever it starts, tasks and timers too, inherits the trail by the
context, and shows what it does as parts of it; without a trail nothing is shown. Work that many share, such
as one read of rows, is on the trail of whoever began it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from types import TracebackType
from typing import Final, Protocol, TypeAlias

__all__ = [
    "Attributes",
    "Begin",
    "Mark",
    "Span",
    "Stretch",
    "after",
    "apart",
    "installed",
    "mark",
    "request",
    "span",
]

# A source that a request swapped inherits its trail, and goes on asking for hours: not the request's doing.
_LASTS_S: Final = 60.0

Attributes: TypeAlias = Mapping[str, str | int]


class Span(Protocol):
    """Something that takes time, as whoever collects spans knows it."""

    def child(self, name: str, attributes: Attributes) -> Span:
        """A part of it begins."""
        ...

    def fail(self, code: str) -> None:
        """It went wrong. `code` is ours, never a text that holds data."""
        ...

    def end(self) -> None:
        """It is over."""
        ...


Begin: TypeAlias = Callable[[str, Attributes], "Span | None"]
"""Begins the span of a request; None: this one is not among those that are shown."""


class Mark:
    """A place on a trail, from which something later may follow."""

    __slots__ = ("span", "until")

    def __init__(self, span: Span, until: float) -> None:
        self.span = span
        self.until = until
        """When (monotonic) the trail goes cold."""


_here: ContextVar[Mark | None] = ContextVar("freya_trail", default=None)
_begin: Begin | None = None


class Stretch:
    """A span while a block runs; nothing where there is no trail."""

    __slots__ = ("_mark", "_token")

    def __init__(self, place: Mark | None) -> None:
        self._mark = place

    def fail(self, code: str) -> None:
        """What runs has failed, though the block goes on."""
        if self._mark is not None:
            self._mark.span.fail(code)

    def __enter__(self) -> Stretch:
        if self._mark is not None:
            self._token = _here.set(self._mark)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, left: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._mark is not None:
            _here.reset(self._token)
            if kind is not None:
                self._mark.span.fail(kind.__name__)
            self._mark.span.end()


_NOTHING: Final = Stretch(None)


def request(name: str, about: Callable[[], Attributes]) -> Stretch:
    """A trail begins. `about` is only called where somebody wants to know."""
    if _begin is None:
        return _NOTHING
    begun = _begin(name, about())
    return _NOTHING if begun is None else Stretch(Mark(begun, monotonic() + _LASTS_S))


def span(name: str, attributes: Attributes | None = None) -> Stretch:
    """A part of what the current trail does."""
    return after(mark(), name, attributes)


@contextmanager
def apart() -> Generator[None]:
    """What is begun in this block is on nobody's trail."""
    token = _here.set(None)
    try:
        yield
    finally:
        _here.reset(token)


def mark() -> Mark | None:
    """The present place on a trail; None where there is none, or it has gone cold."""
    if _begin is None:
        return None
    here = _here.get()
    return here if here is not None and monotonic() < here.until else None


def after(place: Mark | None, name: str, attributes: Attributes | None = None) -> Stretch:
    """A part that follows from a mark, whatever runs now."""
    if place is None:
        return _NOTHING
    return Stretch(Mark(place.span.child(name, attributes or {}), place.until))


@contextmanager
def installed(begin: Begin) -> Generator[None]:
    """Requests are shown for as long as the block runs. One at a time in a process, like the log."""
    global _begin
    assert _begin is None, "spans go to one place"
    _begin = begin
    try:
        yield
    finally:
        _begin = None
