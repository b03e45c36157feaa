"""What comes of a question to the model, whoever is asked: an answer, or a ModelFailure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from server.enhancement.answer import PassAnswer
from server.enhancement.prompt import Prompt

__all__ = ["Completion", "FailureKind", "ModelFailure", "ModelStatistics", "Prompter"]

FailureKind = Literal[
    "unreachable", "timeout", "rateLimited", "unauthorized", "refused", "badAnswer", "rejected"
]

Prompter = Callable[[bool], Prompt]
"""Makes the prompt; the argument says whether the answer's shape must be told in words."""


class ModelFailure(Exception):
    """No answer. Nothing the endpoint said is in here."""

    def __init__(self, kind: FailureKind, retry_after_s: float | None = None) -> None:
        super().__init__(kind)
        self.kind: FailureKind = kind
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer and what it cost."""

    answer: PassAnswer
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """Since the start: HTTP calls that were answered, and what they counted."""

    calls: int
    tokens_in: int
    tokens_out: int
    plain: bool
    """Whether the endpoint is asked without a schema at the moment."""
