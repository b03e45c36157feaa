"""The driver itself: it finds what is wrong, and against a real server it finds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.sources.synthetic import SyntheticConfig, item_data, last_tick_of
from tests.load.claims import ClaimError, failed
from tests.load.following import Follower, Tally, apply_delta
from tests.load.histogram import Histogram, Timeline
from tests.load.link import Link
from tests.support.programs import ROOT, bare_environment

Json = dict[str, Any]
CONFIG = SyntheticConfig.model_validate({"items": 3, "bytes": 10, "ratePerS": 2})
NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def item(tick: int) -> Json:
    data = item_data(CONFIG, tick)
    return {"id": f"freya.synthetic/{tick % 3}", "sourceId": "freya.synthetic", "data": data}


def snapshot(tick: int) -> Json:
    items = [item(last_tick_of(CONFIG, index, tick)) for index in range(3)]
    return {"cursor": f"c{tick}", "items": items}


def delta(tick: int, base: int | None = None, **changes: object) -> Json:
    put = [{"index": tick % 3, "item": item(tick)}]
    at = datetime.fromtimestamp(NOW, UTC).isoformat()
    base = tick - 1 if base is None else base
    return {"base": f"c{base}", "cursor": f"c{tick}", "at": at, "put": put, **changes}


def following(*deltas: Json) -> Tally:
    tally = Tally()
    follower = Follower("alice", CONFIG, tally)
    follower.snapshot(snapshot(10))
    for params in deltas:
        follower.delta(params, NOW)
    return tally


def test_a_feed_that_is_right_has_no_faults() -> None:
    tally = following(delta(11), delta(12), delta(13))
    assert (tally.faulty, tally.deltas, tally.ticks, tally.conflated) == (0, 3, 3, 0)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (delta(12, base=9), "a delta from c9, but we have c10"),
        (delta(12, base=10), "is of tick"),
        (delta(11, remove=["freya.synthetic/9"]), "removes or moves what is not there"),
        (delta(11, put=[{"index": 7, "item": item(11)}]), "leaves a gap"),
        (
            delta(11, put=[{"index": 2, "item": {**item(11), "data": {**item(11)["data"], "text": "?"}}}]),
            "else",
        ),
    ],
)
def test_what_is_wrong_with_a_delta_is_found(wrong: Json, complaint: str) -> None:
    tally = following(wrong)
    assert tally.faulty
    assert complaint in tally.faults[0]


def test_what_was_conflated_is_counted() -> None:
    both = [{"index": tick % 3, "item": item(tick)} for tick in (12, 11)]
    tally = following(delta(12, base=10, put=both))
    assert (tally.faulty, tally.conflated) == (0, 1)


@given(st.permutations("abcdef"), st.lists(st.sampled_from("abcdefgh"), unique=True))
def test_a_list_is_turned_into_any_other(before: list[str], after: list[str]) -> None:
    items: list[Json] = [{"id": name} for name in before]
    put = [{"index": place, "item": {"id": name}} for place, name in enumerate(after)]
    params = {"put": put, "remove": [name for name in before if name not in after]}
    assert apply_delta(items, params) is None
    assert [one["id"] for one in items] == after


@given(st.lists(st.floats(0.001, 60_000), min_size=1), st.floats(1, 100))
def test_a_percentile_is_as_exact_as_it_says(durations: list[float], percent: float) -> None:
    histogram = Histogram()
    for ms in durations:
        histogram.record(ms)
    exact = sorted(durations)[max(0, -int(-len(durations) * percent // 100) - 1)]
    assert histogram.percentile_ms(percent) == pytest.approx(exact, rel=0.041)


def test_a_timeline_of_two_processes_is_one() -> None:
    one, two = Timeline(), Timeline()
    one.record(5.5, 10.0)
    two.record(5.9, 30.0)
    two.record(6.1, 50.0)
    one.add(Timeline.from_wire(json.loads(json.dumps(two.wire()))))
    assert [one.total(5, 6).count, one.total(6, 7).count, one.total().count] == [2, 1, 3]


def test_claims_that_do_not_hold_are_named_with_what_was_found() -> None:
    assert failed("age_p99_ms<10, missing=0", {"age_p99_ms": 12.5, "missing": 0}) == [
        "age_p99_ms<10 (it is 12.5)"
    ]


@pytest.mark.parametrize("claim", ["age_p99_ms", "nothing=1", "age_p99_ms<ten"])
def test_a_claim_that_makes_no_sense_is_refused(claim: str) -> None:
    with pytest.raises(ClaimError):
        failed(claim, {"age_p99_ms": 1.0})


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def opened(self) -> None:
        self.said.append("open")

    def received(self, payload: bytes) -> None:
        self.said.append(payload.decode())

    def closed(self, reason: str) -> None:
        self.said.append(f"closed {reason}")


def test_frames_are_found_however_they_are_cut() -> None:
    stream = b"HTTP/1.1 101 X\r\nA: b\r\n\r\n\x81\x02hi\x81\x7e\x00\x7e" + b"x" * 126 + b"\x88\x02\x03\xe9"
    for size in range(1, len(stream) + 1):
        heard = Heard()
        link = Link(heard, b"")
        for at in range(0, len(stream), size):
            link.data_received(stream[at : at + size])
        assert heard.said == ["open", "hi", "x" * 126, "closed 1001"]


def test_a_refusal_is_told_by_its_status() -> None:
    heard = Heard()
    Link(heard, b"").data_received(b"HTTP/1.1 503 Busy\r\n\r\n")
    assert heard.said == ["closed HTTP 503"]


def test_users_of_a_real_server_receive_everything_and_nothing_else(tmp_path: Path) -> None:
    found, page = tmp_path / "found.json", tmp_path / "report.html"
    load = [sys.executable, "-m", "tests.load", "steady", "--unpinned"]
    measure = ["--connections", "20", "--rate", "5", "--seconds", "3"]
    tell = ["--json", str(found), "--html", str(page), "--assert", "deltas>100,lost=0"]
    done = subprocess.run(
        [*load, *measure, *tell],
        cwd=ROOT,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(found.read_text())["figures"]
    assert (figures["missing"], figures["faults"]) == (0, 0)
    assert "<svg" in page.read_text()
    assert "://" not in page.read_text().replace("http://www.w3.org/2000/svg", "")
