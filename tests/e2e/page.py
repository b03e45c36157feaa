"""What the tests of the dashboard share: windows of a browser that remember what their console said."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from anyio.from_thread import BlockingPortal
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from protocol.client import LiveFeed, connect
from tests.support.programs import ROOT

__all__ = ["ARTIFACTS", "Viewer", "ask", "viewing"]

ARTIFACTS = ROOT / "artifacts" / "dashboard"
"""Screenshots, for people to look at."""

T = TypeVar("T")

# Two workers share two cores with PostgreSQL and a browser.
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Viewer:
    """One person's browser window, and what its console complained of."""

    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list[str])

    def listen(self) -> None:
        """From now on every complaint is kept."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def sign_in(self, url: str, token: str) -> None:
        """Opens the dashboard as `freya serve` prints it, and waits until it is live."""
        self.page.goto(f"http://{url}/#token={token}")
        self.expect_status("live")

    def expect_status(self, text: str) -> None:
        """The pill at the top says so, soon."""
        expect(self.page.locator("#status")).to_have_text(text)

    def show(self, view: str) -> None:
        """Goes to a view by its tab."""
        self.page.locator(f'#tabs a[data-view="{view}"]').click()
        expect(self.page.locator(f'#tabs a[data-view="{view}"]')).to_have_attribute("aria-current", "page")

    def settings_of(self, name: str) -> None:
        """Opens a source's settings."""
        self.source(name).get_by_text("Settings", exact=True).click()

    def source(self, name: str) -> Locator:
        """A source's panel."""
        return self.page.locator("li.source").filter(
            has=self.page.get_by_role("heading", name=name, exact=True)
        )

    def picture(self, name: str) -> None:
        """Keeps a screenshot."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=ARTIFACTS / f"{name}.png")

    def _said(self, message: ConsoleMessage) -> None:
        # A browser itself says so when a server is away, whatever the page does; that is no mistake of ours.
        if message.type in ("error", "warning") and "WebSocket connection to" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")


@contextlib.contextmanager
def viewing(
    browser: Browser,
    *,
    scheme: Literal["light", "dark"] = "light",
    phone: bool = False,
) -> Generator[Viewer]:
    """A window of its own, like another device. Fails where its console has complained."""
    size = {"width": 390, "height": 800} if phone else {"width": 1200, "height": 850}
    context = browser.new_context(
        color_scheme=scheme,
        viewport={"width": size["width"], "height": size["height"]},
        is_mobile=phone,
        has_touch=phone,
        locale="en-GB",
        timezone_id="Europe/London",
    )
    context.set_default_timeout(PATIENCE_MS)
    viewer = Viewer(context, context.new_page())
    viewer.listen()
    try:
        yield viewer
        assert viewer.complaints == []
    finally:
        context.close()


def ask(portal: BlockingPortal, place: str, token: str, what: Callable[[LiveFeed], Awaitable[T]]) -> T:
    """What another client does meanwhile, in a thread of its own."""

    async def run() -> T:
        async with connect(f"ws://{place}", token) as feed:
            return await what(feed)

    return portal.call(run)
