"""Which replicas there are, and what is asked of all of them: an operator's questions, and live figures.

Every replica says now and then that it is there, with its figures. Who was heard of lately and does not
answer a question is unreachable; who said goodbye is gone. All of it is by word over the bus, so it may be a
little old, and while the bus is away every replica knows only itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

import anyio
import orjson
import structlog
from anyio import Event

from protocol.ids import ReplicaId, UserId
from server.engine.clock import Clock, expire_after
from server.replication.bus import Bus

__all__ = ["Assembly", "AssemblyOptions", "View"]

View: TypeAlias = Mapping[str, object]
"""What one replica says of a user, or of itself."""

_MAX_REPLICAS: Final = 1_000
_MAX_QUESTIONS: Final = 64

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AssemblyOptions:
    """How often, and how patient."""

    here_every_s: float = 2.0
    fresh_s: float = 7.0
    """Figures older than this are not counted."""
    forget_s: float = 60.0
    """Who was not heard of for so long is no longer missed."""
    answer_s: float = 1.5
    """An operator's question waits no longer than this for the others."""


@dataclass(slots=True)
class _Other:
    heard_at: float
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(slots=True)
class _Question:
    waiting: set[ReplicaId]
    views: list[View] = field(default_factory=list[View])
    answered: Event = field(default_factory=Event)


class Assembly:
    """The others, as seen from one replica. Makes its own sense of words that come from anywhere: what makes
    none is ignored."""

    def __init__(
        self,
        bus: Bus,
        replica: ReplicaId,
        clock: Clock,
        *,
        figures: Callable[[], Mapping[str, float]],
        look_up: Callable[[UserId], View],
        options: AssemblyOptions | None = None,
    ) -> None:
        """`figures` are this replica's, to be added up with the others'; `look_up` answers about a user."""
        self._bus = bus
        self._replica = replica
        self._clock = clock
        self._figures = figures
        self._look_up = look_up
        self._options = options or AssemblyOptions()
        self._others: dict[ReplicaId, _Other] = {}
        self._questions: dict[int, _Question] = {}
        self._numbered = 0
        self._left = False
        bus.hear(self._hear)

    async def run(self) -> None:
        """Says that it is here, until cancelled or until it has left."""
        while not self._left:
            self._say({"is": "here", "figures": dict(self._figures())})
            await anyio.sleep(self._options.here_every_s)

    def leave(self) -> None:
        """Says goodbye, so that nobody misses it. While the bus still runs: it has to carry that."""
        self._left = True
        self._say({"is": "gone"})

    async def inspect(self, user: UserId) -> tuple[list[View], list[str]]:
        """What the others say of the user, and the names of those that did not answer in time."""
        others = self._known(self._options.forget_s)
        if not others or len(self._questions) >= _MAX_QUESTIONS:
            return [], [str(other) for other in others]
        self._numbered += 1
        number, question = self._numbered, _Question(set(others))
        self._questions[number] = question
        try:
            self._say({"is": "question", "number": number, "user": user})
            with expire_after(self._clock, self._options.answer_s):
                await question.answered.wait()
        finally:
            del self._questions[number]
        return question.views, sorted(question.waiting)

    def total(self, own: Mapping[str, float]) -> Mapping[str, float]:
        """These numbers and those of the replicas heard of lately, added up; and how many `replicas` they
        are of."""
        fresh = [figures for _, figures in self.each()]
        total: dict[str, float] = {"replicas": 1 + len(fresh)}
        for figures in (own, *fresh):
            for name, value in figures.items():
                total[name] = total.get(name, 0) + value
        return total

    def each(self) -> list[tuple[ReplicaId, Mapping[str, float]]]:
        """The numbers of each of the replicas heard of lately, by name."""
        return [(name, self._others[name].figures) for name in sorted(self._known(self._options.fresh_s))]

    def _known(self, within_s: float) -> list[ReplicaId]:
        now = self._clock.monotonic()
        for name in [
            name for name, other in self._others.items() if now - other.heard_at > self._options.forget_s
        ]:
            del self._others[name]
        return [name for name, other in self._others.items() if now - other.heard_at <= within_s]

    # Words

    def _say(self, word: Mapping[str, object], to: ReplicaId | None = None) -> None:
        self._bus.tell(orjson.dumps({**word, "from": self._replica}), to)

    def _hear(self, text: bytes) -> None:
        try:
            word: object = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
        match word:
            case {"from": str(name)} if name == self._replica or len(name) > 128:
                return
            case {"is": "here", "from": str(name), "figures": dict()}:
                self._is_here(ReplicaId(name), cast("dict[str, object]", word)["figures"])
            case {"is": "gone", "from": str(name)}:
                self._others.pop(ReplicaId(name), None)
            case {"is": "question", "from": str(name), "number": int(number), "user": str(user)}:
                self._answer(ReplicaId(name), number, UserId(user))
            case {"is": "answer", "from": str(name), "number": int(number), "view": dict()}:
                self._answered(ReplicaId(name), number, cast("dict[str, object]", word)["view"])
            case _:
                pass

    def _is_here(self, name: ReplicaId, figures: object) -> None:
        told = cast("dict[str, object]", figures)
        if name in self._others or len(self._others) < _MAX_REPLICAS:
            numbers = {key: value for key, value in told.items() if isinstance(value, (int, float))}
            self._others[name] = _Other(self._clock.monotonic(), numbers)

    def _answer(self, name: ReplicaId, number: int, user: UserId) -> None:
        try:
            view = self._look_up(user)
        except Exception:
            # The one who asked is told by our silence; the reader of the bus goes on.
            _log.exception("inspection_failed")
            return
        self._say({"is": "answer", "number": number, "view": view}, name)

    def _answered(self, name: ReplicaId, number: int, view: object) -> None:
        question = self._questions.get(number)
        if question is not None and name in question.waiting:
            question.waiting.discard(name)
            question.views.append(cast("View", view))
            if not question.waiting:
                question.answered.set()
