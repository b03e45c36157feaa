"""What a change of one item costs: making it, finding the difference, encoding it.

    python -m tests.bench.bench_delta [--items 8] [--changed 1]

Microseconds on one machine say little, so each figure stands beside its ratio to the plainest thing that
would do the same: encoding the whole state with `orjson.dumps`. Each step takes turns with that baseline,
and the best of many rounds counts, since other load only ever adds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter_ns

import orjson

from protocol.delta import Delta, diff
from protocol.encoding import delta_message, snapshot_message, snapshot_result
from protocol.feed import Cursor, FeedItem, FeedState, Signals

__all__ = ["Figure", "main", "measure"]

ROUNDS = 300
CALLS = 50
AT = datetime(2026, 3, 2, 9, 0, 0, 250_000, tzinfo=UTC)
CURSOR = "A" * 55


@dataclass(frozen=True, slots=True)
class Figure:
    """One step: microseconds, and how often that fits into the baseline's."""

    name: str
    us: float
    ratio: float


def card(local: int, version: int) -> FeedItem:
    """An item of about 200 bytes, as weather or a delay would be."""
    return FeedItem.make(
        id=f"freya.bench/card-{local}",
        source_id="freya.bench",
        type="card",
        timestamp=AT,
        data={"title": "Minor delays", "version": version, "lines": ["northern", "victoria"], "km": 1.25},
        signals=Signals(0.5, "upcoming"),
    )


def measure(items: int, changed: int) -> tuple[float, Sequence[Figure]]:
    """The baseline in microseconds, and every step."""
    old = FeedState(tuple(card(n, 0) for n in range(items)))
    new = FeedState(tuple(card(n, int(n < changed)) for n in range(items)))
    # Everything that did not change is the very same object, as it comes from the engine.
    new = FeedState(new.items[:changed] + old.items[changed:])
    moved = FeedState((*new.items[1:], new.items[0]))
    whole = orjson.loads(snapshot_result("alice", CURSOR, AT, old, context=False))
    delta = diff(old, new)
    cursor = Cursor(b"epochepo", 7, 9, old.digest)
    text = cursor.encode("alice")
    steps: list[tuple[str, Callable[[], object]]] = [
        ("make and encode an item", lambda: card(1, 1)),
        ("diff", lambda: diff(old, new)),
        ("delta message", lambda: _message(delta)),
        ("diff and delta message", lambda: _message(diff(old, new))),
        ("diff of a list in another order", lambda: diff(old, moved)),
        ("state and its digest", lambda: FeedState(new.items).digest),
        ("snapshot message", lambda: snapshot_message("alice", CURSOR, AT, new, context=False)),
        ("cursor out", lambda: cursor.encode("alice")),
        ("cursor in", lambda: Cursor.decode("alice", text)),
    ]

    def baseline() -> object:
        return orjson.dumps(whole)

    figures: list[Figure] = []
    best_baseline = float("inf")
    for name, step in steps:
        us, baseline_us = _in_turns(step, baseline)
        best_baseline = min(best_baseline, baseline_us)
        figures.append(Figure(name, us, us / baseline_us))
    return best_baseline, figures


def _message(delta: Delta) -> bytes:
    return delta_message("alice", CURSOR, CURSOR, AT, delta, context=False, cause=None)


def _in_turns(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """The best round of each, in microseconds a call."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for at, call in enumerate((one, other)):
            start = perf_counter_ns()
            for _ in range(CALLS):
                call()
            best[at] = min(best[at], (perf_counter_ns() - start) / CALLS / 1000)
    return best[0], best[1]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--changed", type=int, default=1)
    options = parser.parse_args()
    baseline_us, figures = measure(options.items, options.changed)
    print(
        f"{options.items} items, {options.changed} changed; orjson.dumps of the whole: {baseline_us:.2f} us"
    )
    for figure in figures:
        print(f"  {figure.name:<32}{figure.us:>9.2f} us{figure.ratio:>8.2f} x")


if __name__ == "__main__":
    main()
