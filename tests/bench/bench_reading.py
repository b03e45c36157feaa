"""How long the event loop stands still while long documents are read: python -m tests.bench.bench_reading

A ticker asks for its turn every millisecond; what is printed is how late it was at the worst, and how much of
that the loop's own thread was at work (the rest is a busy machine): with nothing to do, while a worker reads,
and, for comparison, while a thread of the same process does, which holds the interpreter's lock meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter, thread_time

import anyio
import anyio.to_thread

from server.engine.clock import SystemClock
from server.reading.jobs import expand_calendar, read_news
from server.upstream.upstreams import UpstreamOptions, Upstreams
from tests.support.web import Reply, open_web

__all__ = ["main"]

MIB = 1024 * 1024
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
WINDOW = (NOON - timedelta(hours=12), NOON + timedelta(hours=12), "Europe/London", 500)

_EVENT = """BEGIN:VEVENT\r
UID:{n}@example.com\r
DTSTART:{at:%Y%m%dT%H%M%SZ}\r
DURATION:PT1H\r
SUMMARY:Meeting {n}\r
DESCRIPTION:{text}\r
END:VEVENT\r
"""


def calendar() -> bytes:
    """20,000 events, 7 MiB."""
    begin = NOON - timedelta(hours=8 * 15_000)
    text = "What was said about it, and by whom, and what came of it. " * 4
    events = (_EVENT.format(n=n, at=begin + timedelta(hours=8 * n), text=text) for n in range(20_000))
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{''.join(events)}END:VCALENDAR\r\n".encode()


def feed() -> bytes:
    """As large as one may be: 7.9 MiB in a few articles."""
    text = "word " * 20_000
    items = "".join(f"<item><title>{n}</title><description>{text}</description></item>" for n in range(82))
    return f'<rss version="2.0"><channel><title>T</title>{items}</channel></rss>'.encode()


async def lag_ms(work: Callable[[], Awaitable[object]]) -> tuple[float, float, float]:
    """The longest the loop stood still meanwhile, the longest it worked (ms), and how long it took (s)."""
    worst = busiest = 0.0
    begun, over = perf_counter(), anyio.Event()

    async def tick() -> None:
        nonlocal worst, busiest
        while not over.is_set():
            before, worked = perf_counter(), thread_time()
            await anyio.sleep(0.001)
            worst = max(worst, perf_counter() - before - 0.001)
            busiest = max(busiest, thread_time() - worked)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await work()
        over.set()
    return worst * 1000, busiest * 1000, perf_counter() - begun


async def _run() -> None:
    ics, rss = calendar(), feed()
    async with (
        open_web(lambda asked: Reply(200, ics if asked.path == "/ics" else rss)) as web,
        Upstreams.open(SystemClock(), UpstreamOptions(allow_private=True)) as upstreams,
    ):

        async def fetch(path: str) -> bytes:
            document = await upstreams.documents.get(web.url + path, accept="*/*", max_bytes=16 * MIB)
            return document.body

        async def warm() -> None:
            await upstreams.workers.run("", expand_calendar, b"BEGIN:VCALENDAR\nEND:VCALENDAR", *WINDOW)

        await warm()
        rows: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("nothing, for a second", lambda: anyio.sleep(1)),
            (f"fetching {len(ics) / MIB:.1f} MiB (both ends)", lambda: fetch("/ics")),
            (
                "20,000 events, in a worker",
                lambda: upstreams.workers.run("", expand_calendar, ics, *WINDOW),
            ),
            (
                f"a feed of {len(rss) / MIB:.1f} MiB, in a worker",
                lambda: upstreams.workers.run("", read_news, rss, "", web.url, 50),
            ),
            ("the same feed, in a thread", lambda: anyio.to_thread.run_sync(read_news, rss, "", web.url, 50)),
        ]
        print(f"{'':34} {'loop late by, ms':>18} {'at work, ms':>12} {'took, s':>9}")
        for name, work in rows:
            late, worked, took = await lag_ms(work)
            print(f"{name:34} {late:18.1f} {worked:12.1f} {took:9.1f}")


def main() -> None:
    """Prints the table."""
    anyio.run(_run, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
