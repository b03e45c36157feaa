"""Spans, sent to a collector by OpenTelemetry. Imported only where they are wanted: it is an extra.

https://opentelemetry.io/docs/specs/semconv/rpc/json-rpc/
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio import to_thread
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Span as Recorded
from opentelemetry.trace import SpanKind, StatusCode, Tracer, set_span_in_context

from server import tracing
from server.tracing import Attributes, Span

__all__ = ["sending_spans", "spans_to"]

# Of one batch. A collector that is away must not hold up the end of the process.
_TIMEOUT_S = 5.0
_LAST_BATCH_S = 2 * _TIMEOUT_S


class _Span:
    """A span of OpenTelemetry, as the rooms know spans."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Recorded) -> None:
        self._tracer = tracer
        self._span = span

    def child(self, name: str, attributes: Attributes) -> Span:
        context = set_span_in_context(self._span)
        return _Span(self._tracer, self._tracer.start_span(name, context, attributes=attributes))

    def fail(self, code: str) -> None:
        self._span.set_status(StatusCode.ERROR)
        self._span.set_attribute("error.type", code)

    def end(self) -> None:
        self._span.end()


@asynccontextmanager
async def spans_to(
    processor: SpanProcessor, *, service: str, replica: str, ratio: float
) -> AsyncGenerator[None]:
    """Gives requests' spans to a processor, which is shut down at the end of the block, within a few seconds.

    `ratio` of the requests are shown, whole. The resource takes OTEL_RESOURCE_ATTRIBUTES, too.
    """
    name, _, version = service.partition("/")
    resource = Resource.create(
        {"service.name": name, "service.version": version, "service.instance.id": replica}
    )
    provider = TracerProvider(TraceIdRatioBased(ratio), resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("freya-push", version)

    def begin(name: str, attributes: Attributes) -> Span | None:
        span = tracer.start_span(name, kind=SpanKind.SERVER, attributes=attributes)
        return _Span(tracer, span) if span.is_recording() else None

    try:
        with tracing.installed(begin):
            yield
    finally:
        with anyio.move_on_after(_LAST_BATCH_S, shield=True):
            await to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


@asynccontextmanager
async def sending_spans(url: str, *, service: str, replica: str, ratio: float) -> AsyncGenerator[None]:
    """Sends requests' spans to the collector at that address (OTLP over HTTP), in batches and from a thread
    of its own. A collector that is away costs the spans, and a line of the log."""
    processor = BatchSpanProcessor(OTLPSpanExporter(url, timeout=_TIMEOUT_S))
    async with spans_to(processor, service=service, replica=replica, ratio=ratio):
        yield
