"""Traces leave the server where a collector is named; elsewhere nothing of OpenTelemetry is even imported."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from anyio import Event, fail_after, to_thread
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from protocol.client import connect
from protocol.ids import UserId
from server import tracing
from server.app import open_app
from server.cannot_start import CannotStart
from server.settings import Settings
from server.tokens import TokenKeys, generate, mint
from tests.support.programs import ROOT, bare_environment, serving
from tests.support.web import Asked, Reply, open_web

PATIENCE_S = 60.0


class Recorder:
    """Writes down what begins, fails and ends."""

    def __init__(self, seen: list[str], name: str) -> None:
        self._seen = seen
        self._name = name
        seen.append(f"begin {name}")

    def child(self, name: str, attributes: tracing.Attributes) -> tracing.Span:
        return Recorder(self._seen, f"{self._name}/{name}")

    def fail(self, code: str) -> None:
        self._seen.append(f"fail {self._name} {code}")

    def end(self) -> None:
        self._seen.append(f"end {self._name}")


def nothing() -> tracing.Attributes:
    return {}


def test_parts_belong_to_their_request_and_what_follows_from_a_mark_to_that_mark() -> None:
    seen: list[str] = []
    with tracing.installed(lambda name, _: Recorder(seen, name)):
        with tracing.request("a", nothing):
            place = tracing.mark()
            with pytest.raises(KeyError), tracing.span("part"):
                raise KeyError
        with tracing.span("outside"):
            assert tracing.mark() is None
        with tracing.after(place, "later"):
            pass
    assert seen == [
        "begin a",
        "begin a/part",
        "fail a/part KeyError",
        "end a/part",
        "end a",
        "begin a/later",
        "end a/later",
    ]


def test_a_trail_goes_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(tracing, "monotonic", lambda: now)
    seen: list[str] = []
    with (
        tracing.installed(lambda name, _: Recorder(seen, name)),
        tracing.request("a", nothing),
    ):
        now += 59.0
        assert tracing.mark() is not None
        now += 2.0
        assert tracing.mark() is None
        with tracing.span("hours later"):
            pass
    assert seen == ["begin a", "end a"]


def test_without_a_collector_nobody_is_asked_and_nothing_is_imported() -> None:
    def never() -> tracing.Attributes:
        raise AssertionError("nobody wants to know")

    with tracing.request("a", never), tracing.span("b"):
        assert tracing.mark() is None
    # The Redis client imports some of it, where it is installed, to count for itself; that is its own affair.
    wanted = "('server.otel', 'opentelemetry.exporter', 'opentelemetry.sdk.trace.export')"
    look = f"import sys, server.app, server.cli.main; sys.exit(any(name in sys.modules for name in {wanted}))"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, env=bare_environment()).returncode == 0


async def test_a_collector_without_the_extra_is_one_sentence_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.") or name == "server.otel"]:
        monkeypatch.delitem(sys.modules, name)
    for name, value in {
        "DATABASE_URL": database_url,
        "FREYA_JWT_KEYS": generate("HS256", "test"),
        "FREYA_DATA_DIR": str(tmp_path),
        "FREYA_OTLP_URL": "http://127.0.0.1:1/v1/traces",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CannotStart, match=r"FREYA_OTLP_URL is set, but .*freya-push\[otel\]"):
        async with open_app(Settings.load(port=0)):
            pass


async def test_a_server_sends_its_traces_to_the_collector_that_is_named(
    database_url: str, tmp_path: Path
) -> None:
    spans: list[tuple[str, str]] = []
    arrived = Event()

    def collect(asked: Asked) -> Reply:
        for of in ExportTraceServiceRequest.FromString(asked.body).resource_spans:
            service = {each.key: each.value.string_value for each in of.resource.attributes}["service.name"]
            spans.extend((service, span.name) for scope in of.scope_spans for span in scope.spans)
        arrived.set()
        return Reply()

    keys = generate("HS256", "test")
    async with open_web(collect) as collector:
        settings = {
            "DATABASE_URL": database_url,
            "FREYA_JWT_KEYS": keys,
            "FREYA_DATA_DIR": str(tmp_path),
            "FREYA_OTLP_URL": f"{collector.url}/v1/traces",
        }
        context = serving(settings=settings)
        server = await to_thread.run_sync(context.__enter__)
        try:
            token = mint(TokenKeys.parse(keys), UserId("alice"), now=datetime.now(UTC), ttl_s=600.0)
            async with connect(server.url, token) as feed:
                with fail_after(PATIENCE_S):
                    await feed.call("source.patch", {"sourceId": "freya.clock", "enabled": False})
            # What was not sent yet is sent at the end.
            await to_thread.run_sync(server.end)
            with fail_after(PATIENCE_S):
                await arrived.wait()
        finally:
            await to_thread.run_sync(context.__exit__, None, None, None)
    assert [asked.path for asked in collector.requests] == ["/v1/traces"] * len(collector.requests)
    assert {("freya-push", "source.patch"), ("freya-push", "transaction")} <= set(spans)
