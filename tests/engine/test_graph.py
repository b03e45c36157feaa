"""The order of sources, and who is blocked, for any web of needs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import SourceId
from server.engine.graph import Blocked, plan

A, B, C, D, E = (SourceId(name) for name in "abcde")

names = st.sampled_from([SourceId(name) for name in "abcdefg"])
webs = st.lists(
    st.tuples(names, st.lists(names, max_size=3).map(tuple)), max_size=7, unique_by=lambda source: source[0]
).map(tuple)

Web = tuple[tuple[SourceId, tuple[SourceId, ...]], ...]


def test_ties_keep_the_order_given() -> None:
    assert plan(((C, ()), (A, ()), (B, ()))).order == (C, A, B)


def test_dependencies_come_first_and_pull_nothing_else_forward() -> None:
    assert plan(((A, (D,)), (B, ()), (C, ()), (D, ()))).order == (B, C, D, A)


def test_dependents_are_all_that_need_one_also_through_others() -> None:
    found = plan(((A, ()), (B, (A,)), (C, (B,)), (D, (A, C)), (E, ())))
    assert found.dependents == {A: (B, C, D), B: (C, D), C: (D,)}


def test_a_missing_dependency_blocks_what_needs_it_and_what_is_behind() -> None:
    found = plan(((A, (SourceId("x"),)), (B, (A,)), (C, ())))
    assert found.order == (C,)
    assert found.blocked == {A: Blocked(SourceId("x"), missing=True), B: Blocked(A)}


def test_a_cycle_names_its_way_round() -> None:
    found = plan(((A, (B,)), (B, (C,)), (C, (A,)), (D, (C,))))
    assert found.order == ()
    assert found.blocked[A] == Blocked(B, (A, B, C))
    assert found.blocked[D] == Blocked(C)
    assert found.blocked[A].reason == "needs itself: a -> b -> c -> a"


def test_what_is_merely_used_comes_first_where_it_can() -> None:
    found = plan(((A, ()), (B, ())), ((A, (B, SourceId("x"))),))
    assert found.order == (B, A)
    assert found.before == {A: (B,)}
    assert found.dependents[B] == (A,)
    assert found.dependents[SourceId("x")] == (A,)


def test_a_circle_of_uses_blocks_nobody() -> None:
    found = plan(((A, ()), (B, ())), ((A, (B,)), (B, (A,))))
    assert found.order == (A, B)
    assert found.blocked == {}
    assert found.dependents == {A: (B,), B: (A,)}


def runnable(web: Web) -> set[SourceId]:
    """Those that can run, found by taking away until nothing more goes."""
    known = dict(web)
    alive = set(known)
    while True:
        reached: set[SourceId] = set()
        while more := {n for n in alive - reached if all(d in reached for d in known[n])}:
            reached |= more
        if reached == alive:
            return alive
        alive = reached


def closure(name: SourceId, reads: dict[SourceId, set[SourceId]]) -> set[SourceId]:
    """All that one reads, also through others, but for itself."""
    found = set(reads[name])
    while more := {far for near in found for far in reads.get(near, ())} - found:
        found |= more
    return found - {name}


@given(webs, webs)
def test_any_web_is_arranged(web: Web, uses: Web) -> None:
    known, used = dict(web), dict(uses)
    found = plan(web, tuple((name, those) for name, those in uses if name in known))
    assert set(found.order) == runnable(web), "only those in or behind a cycle or a gap are blocked"
    assert set(found.blocked) == set(known) - set(found.order)
    place = {name: index for index, name in enumerate(found.order)}
    for name in found.order:
        assert all(place[needed] < place[name] for needed in known[name])
        assert set(known[name]) <= set(found.before.get(name, ()))
    for name, why in found.blocked.items():
        assert why.by in known[name]
        assert why.by not in place
    reads = {name: {*known[name], *used.get(name, ())} for name in found.order}
    for name in reads:
        for read in closure(name, reads):
            assert name in found.dependents[read]
    assert sum(map(len, found.dependents.values())) == sum(len(closure(name, reads)) for name in reads)
    for those in found.dependents.values():
        assert list(those) == sorted(those, key=place.__getitem__)


@given(webs)
def test_without_uses_the_earliest_registered_of_those_that_are_ready_comes_next(web: Web) -> None:
    known = dict(web)
    done: list[SourceId] = []
    can_run = runnable(web)
    while len(done) < len(can_run):
        done.append(
            next(n for n in known if n in can_run and n not in done and all(d in done for d in known[n]))
        )
    assert plan(web).order == tuple(done)
