"""What is answered over plain HTTP, and to whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import UserId
from protocol.messages import METHODS
from server.http import HttpRequest, HttpResponse, ListenerKind
from server.http.access import OperatorAccess
from server.http.asyncapi import schema_files
from server.http.files import client_files, dashboard_files
from server.http.site import Site
from server.tokens import TokenKeys, TokenOptions, TokenVerifier, generate, mint

KEYS = TokenKeys.parse(generate("HS256", "k"))
NOW = datetime.now(UTC)


class State:
    """A `Readiness` to be set."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.away: Sequence[str] = ()
        self.revoked = False
        self.metrics_fail = False

    def not_ready(self) -> str | None:
        return self.reason

    def degraded(self) -> Sequence[str]:
        return self.away

    async def metrics(self) -> bytes:
        if self.metrics_fail:
            raise RuntimeError("secret detail")
        return b"freya_connections 1\n"


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def site(state: State) -> Site:
    access = OperatorAccess(
        TokenVerifier(KEYS, TokenOptions(), lambda: NOW), lambda _user, _issued_at: state.revoked
    )
    return Site(readiness=state, access=access, metrics=state.metrics, schemas=schema_files())


def token(*scopes: str) -> str:
    return mint(KEYS, UserId("root"), now=NOW, ttl_s=60, scopes=scopes)


async def get(
    site: Site, path: str, *, listener: ListenerKind = ListenerKind.LOOPBACK, **headers: str
) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site(HttpRequest(method="GET", path=path, headers=named, listener=listener))


async def test_healthz_says_that_the_process_lives(site: Site, state: State) -> None:
    state.reason = "draining"
    assert (await get(site, "/healthz")).status == 200


async def test_readyz_is_503_before_the_start_and_while_draining(site: Site, state: State) -> None:
    for reason in ("starting", "draining"):
        state.reason = reason
        answer = await get(site, "/readyz")
        assert answer.status == 503
        assert json.loads(answer.body)["reason"] == reason
        assert "Retry-After" in answer.headers


async def test_readyz_stays_200_when_a_dependency_is_lost_and_names_it(site: Site, state: State) -> None:
    assert json.loads((await get(site, "/readyz")).body)["degraded"] == []
    state.away = ["redis"]
    answer = await get(site, "/readyz")
    assert answer.status == 200
    assert json.loads(answer.body)["degraded"] == ["redis"]


OPERATORS_ONLY = ["/metrics", "/", "/index.html", "/main.js"]
EVERYBODYS = [
    "/healthz",
    "/readyz",
    "/asyncapi.json",
    "/schemas/feed.get.json",
    "/client.js",
    "/client/index.js",
]


@pytest.mark.parametrize("path", OPERATORS_ONLY)
async def test_what_is_for_operators_is_open_on_loopback_and_on_their_own_address(
    site: Site, path: str
) -> None:
    for listener in (ListenerKind.LOOPBACK, ListenerKind.OPS):
        assert (await get(site, path, listener=listener)).status == 200


@pytest.mark.parametrize("path", OPERATORS_ONLY)
async def test_beyond_loopback_operators_need_an_admin_token(site: Site, state: State, path: str) -> None:
    async def asked_with(authorization: str) -> HttpResponse:
        return await get(site, path, listener=ListenerKind.PUBLIC, authorization=authorization)

    for wrong in ("", "Bearer", "Bearer x", f"Basic {token('admin')}"):
        answer = await asked_with(wrong)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await asked_with(f"Bearer {token('feed:watch')}")).status == 403
    assert (await asked_with(f"bearer {token('admin')}")).status == 200
    state.revoked = True
    assert (await asked_with(f"Bearer {token('admin')}")).status == 403


@pytest.mark.parametrize("path", EVERYBODYS)
async def test_what_is_for_everybody_needs_no_token_anywhere(site: Site, path: str) -> None:
    for listener in ListenerKind:
        assert (await get(site, path, listener=listener)).status == 200


async def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(site: Site) -> None:
    answer = await get(site, "/", host="push.example:8080")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self' ws://push.example:8080 wss://push.example:8080;" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["", "a b", "x; script-src *", "x'y", "ü", "[::1]; x"])
async def test_a_host_header_cannot_widen_the_policy(site: Site, host: str) -> None:
    policy = (await get(site, "/", host=host)).headers["Content-Security-Policy"]
    assert "connect-src 'self';" in policy
    assert host == "" or host not in policy


async def test_a_file_that_is_known_is_not_sent_again(site: Site) -> None:
    first = await get(site, "/")
    etag = first.headers["ETag"]
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        again = await get(site, "/", if_none_match=known)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == etag
    assert (await get(site, "/", if_none_match='"x"')).status == 200
    assert first.headers["Cache-Control"] == "no-cache"


async def test_every_file_of_the_dashboard_and_the_client_is_served_with_its_kind(site: Site) -> None:
    served = {**dashboard_files(), **client_files()}
    assert {"/", "/index.html", "/style.css", "/client.js", "/client/index.js"} <= served.keys()
    kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    for path in served:
        answer = await get(site, path)
        assert (answer.status, answer.body) == (200, served[path].body)
        for ending, kind in kinds.items():
            assert not path.endswith(ending) or answer.headers["Content-Type"].startswith(kind)


async def test_the_client_can_be_imported_from_other_pages(site: Site) -> None:
    for path in ("/client.js", "/client/index.js"):
        assert (await get(site, path)).headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "path",
    [
        "/../settings.py",
        "/..",
        "//etc/passwd",
        "/client/../../server/settings.py",
        "/client/%2e%2e/messages/base.py",
        "/views",
        "/views/",
        "/client/",
        "/.git/config",
        "/__init__.py",
        "/schemas/nothing.json",
        "/schemas/../asyncapi.json",
        "\\..\\x",
        "/index.html\0",
        "",
    ],
)
async def test_a_path_leads_nowhere_but_to_what_is_served(site: Site, path: str) -> None:
    assert (await get(site, path)).status == 404


@given(path=st.text())
async def test_any_path_has_an_answer(path: str) -> None:
    state = State()
    access = OperatorAccess(TokenVerifier(KEYS, TokenOptions(), lambda: NOW), lambda _user, _at: False)
    whole = Site(readiness=state, access=access, metrics=state.metrics, schemas={})
    assert (await get(whole, path)).status in {200, 404}


async def test_a_fault_shows_nothing_of_itself(site: Site, state: State) -> None:
    state.metrics_fail = True
    answer = await get(site, "/metrics")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert (await get(site, "/healthz")).status == 200


@pytest.mark.parametrize("name", METHODS)
async def test_every_method_has_its_schema(site: Site, name: str) -> None:
    answer = await get(site, f"/schemas/{name}.json")
    schema = json.loads(answer.body)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == {"params", "result"}


def test_only_known_kinds_of_files_are_served() -> None:
    for path in {**dashboard_files(), **client_files()}:
        assert not path.endswith((".py", ".pyc", ".map"))
    assert files("server").joinpath("dashboard").is_dir()
