"""The dashboard in a real Chromium, over a real server. Screenshots are kept in artifacts/dashboard."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, cast
from zoneinfo import ZoneInfo

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from protocol.client import LiveFeed
from protocol.ids import UserId
from server.keys import token_keys
from server.settings import Settings
from server.tokens import mint
from tests.e2e.page import Viewer, ask, viewing
from tests.e2e.showcase import showcase
from tests.support.browser import chromium
from tests.support.npm import npm_modules
from tests.support.ports import free_port
from tests.support.programs import ROOT, Server, serving
from tests.support.proxy import open_proxy

EVERYTHING = ("admin", "feed:watch", "item:publish")
SETTINGS = {"FREYA_SYNTHETIC": "1", "FREYA_JWT_LEEWAY_S": "0"}


SEE_A_GLOW = """() => {
  const look = () => document.querySelector("li.changed") && (window.glowed = true);
  new MutationObserver(look).observe(document.body, {subtree: true, attributes: true});
}"""
KEEP_THE_STATUS = """() => {
  const status = document.getElementById("status");
  window.said = [];
  new MutationObserver(() => said.push(status.textContent)).observe(status, {childList: true, subtree: true});
}"""
SEVERAL_POINTS = """() =>
  document.querySelector("[data-figure=connections] polyline")?.getAttribute("points")?.split(" ").length > 2
"""
ADD_A_SCRIPT = """() => {
  const script = document.createElement("script");
  script.textContent = "window.ran = 1";
  document.body.append(script);
}"""
GLOWS_HAVE_FADED = """() => {
  const passing = (animation) => animation.effect.getTiming().iterations !== Infinity;
  return Promise.all(document.getAnimations().filter(passing).map(({finished}) => finished.catch(() => {})))
    .then(() => true);
}"""
SERIOUS = """async () => {
  const {violations} = await axe.run({resultTypes: ["violations"]});
  return violations
    .filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, help, nodes}) => ({id, help, nodes: nodes.slice(0, 3).map(({html}) => html)}));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    with sync_playwright() as playwright:
        # As root, Chromium's own sandbox can't be set up; the only pages here are ours.
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """Other clients, and the proxy, run in its thread."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="module")
def house(browser: Browser) -> Iterator[Path]:
    """The data directory of the server; `browser` first, so that nothing is started where there is none."""
    folder = Path(tempfile.mkdtemp(prefix="freya-dashboard-"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(house: Path) -> Iterator[Server]:
    with serving("--data-dir", str(house), settings=SETTINGS) as server:
        yield server


@pytest.fixture
def place(server: Server) -> str:
    return server.place


def token(house: Path, user: str, *scopes: str, ttl_s: float = 3600) -> str:
    """As `freya token` makes it."""
    keys = token_keys(Settings.load(data_dir=house))
    return mint(keys, UserId(user), now=datetime.now(UTC), ttl_s=ttl_s, scopes=scopes)


def card(viewer: Viewer, title: str) -> Locator:
    return viewer.page.locator("article.card").filter(has_text=title)


def test_the_first_paint_is_a_live_feed_and_the_token_leaves_the_address(
    browser: Browser, house: Path, place: str
) -> None:
    with viewing(browser) as viewer:
        viewer.sign_in(place, token(house, "ann"))
        expect(viewer.page.locator("article.card").first).to_be_visible()
        assert "token" not in viewer.page.url
        kept = viewer.page.evaluate(
            "[Object.keys(sessionStorage), Object.keys(localStorage), document.cookie]"
        )
        assert kept == [["freya-push-token"], [], ""]
        assert viewer.page.locator("#tabs a").all_inner_texts() == ["Feed", "Sources", "Inspector"]
        viewer.page.reload()
        viewer.expect_status("live")
        viewer.page.get_by_role("button", name="Sign out").click()
        expect(viewer.page.get_by_label("Token")).to_be_focused()
        assert viewer.page.evaluate("Object.keys(sessionStorage)") == []


def test_a_token_may_be_typed_in_too(browser: Browser, house: Path, place: str) -> None:
    with viewing(browser) as viewer:
        viewer.page.goto(f"http://{place}/")
        viewer.page.get_by_label("Token").fill(token(house, "ann"))
        viewer.page.keyboard.press("Enter")
        viewer.expect_status("live")


def test_a_patch_through_the_form_is_followed_by_another_browser(
    browser: Browser, house: Path, place: str
) -> None:
    key = token(house, "bea")
    with viewing(browser) as laptop, viewing(browser, phone=True) as phone:
        for viewer in (laptop, phone):
            viewer.sign_in(place, key)
            viewer.show("sources")
            viewer.settings_of("You")
        zone = laptop.source("You").get_by_label("Time zone")
        zone.fill("Mars/Olympus")
        laptop.source("You").get_by_role("button", name="Save").click()
        expect(zone).to_have_attribute("aria-invalid", "true")
        laptop.picture("form-error")
        zone.fill("Asia/Tokyo")
        laptop.source("You").get_by_role("button", name="Save").click()
        expect(laptop.page.locator(".toast")).to_contain_text("saved")
        expect(phone.source("You").get_by_label("Time zone")).to_have_value("Asia/Tokyo")
        phone.picture("phone-sources")

        # one edits while the other saves: nothing is lost, and nothing is overwritten unseen
        phone.source("You").get_by_label("Time zone").fill("Europe/Paris")
        zone.fill("Europe/Rome")
        laptop.source("You").get_by_role("button", name="Save").click()
        expect(phone.source("You").locator(".news")).to_contain_text("changed on another device")
        phone.source("You").get_by_role("button", name="Save").click()
        expect(phone.page.locator(".toast.error")).to_contain_text("Not saved")
        expect(zone).to_have_value("Europe/Rome")
        phone.picture("phone-conflict")
        phone.source("You").get_by_role("button", name="Show the new settings").click()
        expect(phone.source("You").get_by_label("Time zone")).to_have_value("Europe/Rome")

        phone.source("Clock").get_by_role("switch").click()
        expect(laptop.source("Clock").locator(".badge")).to_have_text("off")
        expect(laptop.source("Clock").get_by_role("switch")).not_to_be_checked()


def test_reminders_are_made_completed_and_items_dismissed(browser: Browser, house: Path, place: str) -> None:
    with viewing(browser) as viewer:
        viewer.sign_in(place, token(house, "cleo"))
        viewer.show("sources")
        source = viewer.source("Reminders")
        source.get_by_text("New reminder").click()
        source.get_by_role("button", name="Do it").click()
        expect(source.locator("[aria-invalid]").first).to_be_focused()
        source.get_by_label("Title").fill("Water the plants")
        # the browser's clock is London's
        due = datetime.now(ZoneInfo("Europe/London")) + timedelta(minutes=30)
        source.get_by_label("Due").first.fill(due.strftime("%Y-%m-%dT%H:%M"))
        source.get_by_role("button", name="Do it").click()
        expect(viewer.page.locator(".toast")).to_contain_text("done")
        viewer.show("feed")
        reminder = card(viewer, "Water the plants")
        reminder.get_by_role("button", name="Complete").click()
        expect(reminder).to_have_count(0)
        greeting = viewer.page.locator('article[data-type="clock-greeting"]')
        greeting.get_by_role("button", name="Dismiss").press("Enter")
        expect(greeting).to_have_count(0)
        expect(viewer.page.locator(".dismiss:focus")).to_have_count(1)


def test_a_source_that_fails_is_told_where_its_items_would_be(
    browser: Browser, house: Path, place: str, portal: BlockingPortal
) -> None:
    key = token(house, "bob")
    with viewing(browser) as viewer:
        viewer.sign_in(place, key)
        config = {"feeds": [f"http://127.0.0.1:{free_port()}/feed.xml"]}
        ask(portal, place, key, lambda feed: feed.put_source("freya.news", config=config))
        expect(viewer.page.locator(".errors")).to_contain_text("freya.news")
        viewer.picture("source-error")
        viewer.page.locator(".errors").get_by_role("link", name="Settings").click()
        expect(viewer.source("News").locator(".badge")).to_have_text("failing")
        ask(portal, place, key, lambda feed: feed.patch_source("freya.news", enabled=False))
        expect(viewer.source("News").locator(".badge")).to_have_text("off")
        viewer.show("feed")
        expect(viewer.page.locator(".errors .problem")).to_have_count(0)


def test_changed_cards_glow_and_others_stay_untouched(
    browser: Browser, house: Path, place: str, portal: BlockingPortal
) -> None:
    backend = token(house, "backend", "item:publish")

    def publish(title: str) -> None:
        item = {"id": "door", "type": "message", "data": {"title": title, "url": "javascript:alert(1)"}}
        ask(portal, place, backend, lambda feed: feed.publish("dora", [item]))

    with viewing(browser) as viewer:
        viewer.sign_in(place, token(house, "dora"))
        viewer.page.evaluate("document.querySelector('article.card').marked = true")
        publish("The door is open")
        expect(card(viewer, "The door is open")).to_be_visible()
        viewer.page.evaluate(SEE_A_GLOW)
        publish("<b>The door</b> is shut")
        expect(card(viewer, "<b>The door</b> is shut")).to_be_visible()
        assert viewer.page.evaluate("window.glowed") is True
        assert viewer.page.evaluate("document.querySelector('article.card').marked") is True
        assert viewer.page.locator("article b").count() == 0
        assert viewer.page.locator('article a[href^="javascript"]').count() == 0


def test_a_restart_is_survived_without_a_reload_and_resumed(browser: Browser, house: Path) -> None:
    """A drain, from the page's side: it is told, it waits, it is sent away, it comes back to where it was."""
    home = house.parent / "restarted"
    port = str(free_port())
    arguments = ("--data-dir", str(home), "--port", port)
    with serving(*arguments, settings={"FREYA_DRAIN_DELAY_S": "1"}) as first, viewing(browser) as viewer:
        viewer.sign_in(first.place, token(home, "eve"))
        expect(viewer.page.locator("article.card").first).to_be_visible()
        viewer.page.evaluate("window.neverReloaded = true")
        viewer.page.evaluate(KEEP_THE_STATUS)
        cards = viewer.page.locator("article.card").all_inner_texts()
        first.end()
        viewer.expect_status("reconnecting")
        assert "live, server is leaving" in cast("list[str]", viewer.page.evaluate("said"))
        assert viewer.page.locator("article.card").all_inner_texts() == cards, "what was there stays there"
        viewer.picture("reconnecting")
        # Sources are waited for, however slow the machine: the feed is then what it was.
        with serving(*arguments, settings={"FREYA_RESUME_WAIT_S": "10"}):
            # The waits have grown meanwhile; the network's return cuts them short.
            viewer.page.evaluate("dispatchEvent(new Event('online'))")
            viewer.expect_status("live")
            assert viewer.page.evaluate("window.neverReloaded") is True
            viewer.show("inspector")
            viewer.page.get_by_role("button", name="Send").click()
            answer = viewer.page.locator(".answer")
            expect(answer).to_contain_text("lastResume")
            assert json.loads(answer.inner_text())["lastResume"]["outcome"] in ("same", "delta")


def test_a_dead_link_is_noticed_offline_and_live_again_as_soon_as_it_is_online(
    browser: Browser, house: Path, place: str, portal: BlockingPortal
) -> None:
    proxies = portal.wrap_async_context_manager(open_proxy(lambda: int(place.split(":")[1])))
    with proxies as proxy, viewing(browser) as viewer:
        viewer.sign_in(f"127.0.0.1:{proxy.port}", token(house, "fay"))
        portal.call(proxy.hold)
        viewer.context.set_offline(True)
        expect(viewer.page.locator("#status")).to_have_text(re.compile("reconnecting|connecting"))
        portal.call(proxy.release)
        viewer.context.set_offline(False)
        viewer.expect_status("live")


def test_an_expired_token_leads_to_the_sign_in(browser: Browser, house: Path, place: str) -> None:
    with viewing(browser) as viewer:
        viewer.page.goto(f"http://{place}/#token={token(house, 'gus', ttl_s=2)}")
        expect(viewer.page.get_by_role("alert")).to_contain_text("expired")
        viewer.picture("expired")
        viewer.page.get_by_label("Token").fill(token(house, "gus"))
        viewer.page.get_by_role("button", name="Connect").click()
        viewer.expect_status("live")


def test_two_thousand_items_are_shown_and_stay_live(
    browser: Browser, house: Path, place: str, portal: BlockingPortal
) -> None:
    key = token(house, "hal")

    async def crowd(feed: LiveFeed) -> None:
        config = {"items": 1990, "ratePerS": 2}
        await feed.put_source("freya.synthetic", config=config, enabled=True)

    ask(portal, place, key, crowd)
    with viewing(browser) as viewer:
        viewer.sign_in(place, key)
        viewer.page.wait_for_function("document.querySelectorAll('article.card').length >= 1990")
        expect(viewer.page.locator("li.changed").first).to_be_attached()
        viewer.picture("two-thousand")


def test_the_operator_sees_figures_move_and_watches_others(
    browser: Browser, house: Path, place: str, portal: BlockingPortal
) -> None:
    key = token(house, "ops", *EVERYTHING)
    item = {"id": "1", "type": "message", "data": {"title": "For Ida alone"}}
    ask(portal, place, key, lambda feed: feed.publish(["ida", "joe"], [item]))
    with viewing(browser) as viewer:
        viewer.sign_in(place, key)
        viewer.show("operations")
        viewer.page.wait_for_function(SEVERAL_POINTS)
        expect(viewer.page.locator('[data-figure="memoryBytes"]')).to_contain_text("MiB")
        expect(viewer.page.get_by_role("table", name="Providers")).to_contain_text("freya.clock")
        expect(viewer.page.locator(".state")).to_contain_text("all well")
        viewer.show("watch")
        for user in ("ida", "joe"):
            viewer.page.get_by_label("User").fill(user)
            viewer.page.keyboard.press("Enter")
        expect(viewer.page.get_by_role("region", name="Feed of ida")).to_contain_text("For Ida alone")
        viewer.page.get_by_role("button", name="Stop watching joe").click()
        expect(viewer.page.get_by_role("region", name="Feed of joe")).to_have_count(0)


def test_the_inspector_shows_frames_and_sends_any_method_but_no_secrets(
    browser: Browser, house: Path, place: str
) -> None:
    with viewing(browser) as viewer:
        viewer.sign_in(place, token(house, "kim"))
        viewer.show("inspector")
        expect(viewer.page.locator(".frames")).to_contain_text("feed.snapshot")
        viewer.page.get_by_label("Method").select_option("source.authorize")
        secret = {"sourceId": "freya.calendar", "credentials": {"password": {"deep": "hush"}}}
        viewer.page.get_by_label("Params").fill(json.dumps(secret))
        viewer.page.get_by_role("button", name="Send").click()
        expect(viewer.page.locator(".answer")).to_contain_text("-320")
        sent = viewer.page.locator(".frames li").filter(has_text="source.authorize").locator("details")
        sent.locator("summary").click()
        expect(sent.locator("pre")).to_contain_text("hidden")
        assert "hush" not in sent.inner_text()
        viewer.page.get_by_label("Params").fill("{")
        viewer.page.get_by_role("button", name="Send").click()
        expect(viewer.page.locator(".answer")).to_contain_text("JSON")


def test_the_page_runs_nothing_that_is_not_its_own(browser: Browser, place: str) -> None:
    with viewing(browser) as viewer:
        answer = viewer.page.goto(f"http://{place}/")
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "'unsafe" not in policy
        assert "script-src 'self'" in policy
        viewer.page.evaluate(ADD_A_SCRIPT)
        assert viewer.page.evaluate("window.ran") is None
        assert any("Content Security Policy" in said for said in viewer.complaints)
        viewer.complaints.clear()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_every_view_can_be_read_by_everybody(
    look: Literal["light", "dark", "phone"], browser: Browser, house: Path, place: str, portal: BlockingPortal
) -> None:
    """axe-core finds nothing serious, nothing is wider than a phone, and a picture of each view is kept."""
    axe, without = _axe()
    user = f"lea-{look}"
    key = token(house, user, *EVERYTHING)
    ask(portal, place, key, lambda feed: _furnish(feed, user))
    with viewing(browser, scheme="dark" if look == "dark" else "light", phone=look == "phone") as viewer:
        viewer.sign_in(place, key)
        ground = viewer.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (look == "dark")
        expect(card(viewer, "Design review")).to_be_visible()
        if axe:
            viewer.page.evaluate(f"{axe}; null")
        for view in ("feed", "sources", "watch", "operations", "inspector"):
            viewer.show(view)
            _fill(viewer, view)
            viewer.picture(f"{look}-{view}")
            if axe:
                assert _serious(viewer) == [], view
            wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert viewer.page.evaluate(wide), f"{view} is wider than the window"
    if not axe:
        pytest.skip(f"all is well but for what axe-core would find: {without}")


def _axe() -> tuple[str, str]:
    """axe-core's text, or none and why."""
    try:
        modules = npm_modules(ROOT / "tests" / "js")
    except pytest.skip.Exception as missing:
        return "", str(missing)
    return (modules / "axe-core" / "axe.min.js").read_text(encoding="utf-8"), ""


async def _furnish(feed: LiveFeed, user: str) -> None:
    """A feed to look at, somewhere where it is late morning: at night a feed shows less."""
    now = datetime.now(UTC)
    east = 11 - now.hour  # the names of these zones count to the west
    await feed.put_source("freya.user", config={"timeZone": f"Etc/GMT{-east:+d}" if east else "UTC"})
    await feed.publish([user, "mia"], showcase(now))
    due = (now + timedelta(minutes=30)).isoformat()
    await feed.execute("freya.reminders", "create-reminder", {"title": "Water the plants", "dueAt": due})


def _fill(viewer: Viewer, view: str) -> None:
    match view:
        case "sources":
            viewer.settings_of("You")
            expect(viewer.source("You").get_by_label("Time zone")).to_be_visible()
        case "watch":
            viewer.page.get_by_label("User").fill("mia")
            viewer.page.keyboard.press("Enter")
            expect(viewer.page.get_by_role("region", name="Feed of mia")).to_contain_text("Design review")
        case "operations":
            expect(viewer.page.locator('[data-figure="connections"]')).to_be_visible()
        case "inspector":
            expect(viewer.page.locator(".frames li").first).to_be_visible()
        case _:
            pass


def _serious(viewer: Viewer) -> list[str]:
    """What axe-core holds to be serious or critical, in one line each."""
    # What is shown for a moment is left to fade first.
    viewer.page.evaluate(GLOWS_HAVE_FADED)
    found = cast("list[dict[str, object]]", viewer.page.evaluate(SERIOUS))
    return [json.dumps(one) for one in found]
