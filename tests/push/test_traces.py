"""One request, from the socket to what is pushed for it, as spans."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from server.otel import spans_to
from tests.push.board import BOARD
from tests.push.conftest import ALICE, Server
from tests.push.peers import Follower, open_peer


@asynccontextmanager
async def traced(*, ratio: float = 1.0) -> AsyncGenerator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    processor = SimpleSpanProcessor(kept)
    async with spans_to(processor, service="freya-push/1", replica="r1", ratio=ratio):
        yield kept


def path(span: ReadableSpan, spans: dict[int, ReadableSpan]) -> list[str]:
    """The names from the root to the span."""
    above = [] if span.parent is None else path(spans[span.parent.span_id], spans)
    return [*above, span.name]


def by_path(kept: InMemorySpanExporter) -> dict[tuple[str, ...], ReadableSpan]:
    spans = {span.context.span_id: span for span in kept.get_finished_spans() if span.context is not None}
    return {tuple(path(span, spans)): span for span in spans.values()}


async def test_a_patch_is_followed_from_the_socket_to_what_is_pushed_for_it(server: Server) -> None:
    async with traced() as kept, open_peer(server.address, server.token()) as peer:
        feed = Follower(peer, ALICE)
        await feed.step()
        server.board.shown[ALICE] = {"a": "new"}
        await peer.call("source.patch", {"sourceId": BOARD, "config": {"title": "x"}})
        while feed.texts() != ["new"]:
            await feed.step()
    found = by_path(kept)
    assert {
        ("source.patch",),
        ("source.patch", "transaction"),
        ("source.patch", "apply"),
        ("source.patch", "apply", "build"),
    } <= found.keys()
    assert any(each[0] == "source.patch" and each[-1] == "swap" for each in found)
    assert any(each[0] == "source.patch" and each[-1] == "push" for each in found)
    assert len({span.context.trace_id for span in found.values() if span.context is not None}) == 1
    root = found["source.patch",]
    assert root.kind is SpanKind.SERVER
    assert root.attributes is not None
    assert root.attributes["rpc.method"] == "source.patch"
    assert root.resource.attributes["service.instance.id"] == "r1"
    assert root.status.is_unset
    assert "alice" not in str([span.to_json() for span in found.values()])


async def test_a_request_that_fails_says_so_with_its_code(server: Server) -> None:
    async with traced() as kept, open_peer(server.address, server.token()) as peer:
        await peer.fail("source.get", {"sourceId": "none"})
        await peer.call("source.get", {"sourceId": BOARD})
    first, second = kept.get_finished_spans()
    assert first.attributes is not None
    assert (first.status.is_ok, first.attributes["error.type"]) == (False, "-32001")
    assert second.status.is_unset


async def test_what_changes_by_itself_is_on_nobodys_trail(server: Server) -> None:
    async with traced() as kept, open_peer(server.address, server.token()) as peer:
        feed = Follower(peer, ALICE)
        await feed.step()
        server.board.show(ALICE, a="by itself")
        while feed.texts() != ["by itself"]:
            await feed.step()
    assert kept.get_finished_spans() == ()


async def test_of_requests_only_the_wanted_share_is_traced(server: Server) -> None:
    async with traced(ratio=0.0) as kept, open_peer(server.address, server.token()) as peer:
        await peer.call("source.patch", {"sourceId": BOARD, "config": {"title": "x"}})
    assert kept.get_finished_spans() == ()
