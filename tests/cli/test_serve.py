"""freya serve: what keeps it from starting is said in one message; what it was started for, it does to
the end.
"""

from __future__ import annotations

import json
import signal
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.cli.main import run
from server.metrics import CATALOGUE
from server.tokens import generate
from storage.credentials import generate_key
from storage.migrate import migrate
from tests.support.certificates import self_signed
from tests.support.databases import Databases
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.programs import Server, running, serving

KEYS = {"FREYA_JWT_KEYS": generate("HS256", "test"), "FREYA_CREDENTIAL_KEYS": generate_key("test")}


@pytest.fixture(scope="module")
def shared_database(postgres_cluster: PostgresServer, databases: Databases) -> Iterator[str]:
    name = databases.create(databases.template("migrated", migrate))
    yield postgres_cluster.dsn(name)
    databases.drop(name)


@pytest.fixture(scope="module")
def server(shared_database: str) -> Iterator[Server]:
    """One for all tests that leave it as it is."""
    with serving(settings={"DATABASE_URL": shared_database, **KEYS}) as server:
        yield server


def set_all(monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
    for name, value in {**KEYS, **environ}.items():
        monkeypatch.setenv(name, value)


def said(capfd: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """What the command says when it can't go on."""
    assert run(arguments) == code
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return err


def get(address: str, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_an_unreachable_database_is_one_message_that_names_the_place_and_no_password(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    set_all(monkeypatch, DATABASE_URL=f"postgresql://freya:hunter2@127.0.0.1:{port}/freya")
    err = said(capfd, 1, "serve", "--port", "0")
    assert f"127.0.0.1:{port}" in err
    assert "DATABASE_URL" in err
    assert "hunter2" not in err


def test_a_malformed_key_ring_is_one_message_that_shows_nothing_of_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, DATABASE_URL="postgresql://127.0.0.1/x", FREYA_CREDENTIAL_KEYS="a:c2hvcnQ=")
    err = said(capfd, 1, "serve")
    assert "FREYA_CREDENTIAL_KEYS" in err
    assert "32" in err
    assert "c2hvcnQ" not in err


def test_a_shared_database_without_keys_is_refused_with_the_way_out(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/x")
    err = said(capfd, 1, "serve")
    for part in ("FREYA_JWT_KEYS", "FREYA_CREDENTIAL_KEYS", "keygen"):
        assert part in err


def test_a_default_source_that_nobody_provides_is_a_mistake_in_the_settings(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, DATABASE_URL="postgresql://127.0.0.1/x", FREYA_DEFAULT_SOURCES="freya.clok")
    err = said(capfd, 2, "serve")
    assert "FREYA_DEFAULT_SOURCES" in err
    assert "freya.clok" in err


def test_a_certificate_that_cannot_be_used_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    set_all(monkeypatch, DATABASE_URL="postgresql://127.0.0.1/x", FREYA_TLS_CERT=str(tmp_path / "bad.pem"))
    monkeypatch.setenv("FREYA_TLS_KEY", str(tmp_path / "none.pem"))
    assert "FREYA_TLS_CERT" in said(capfd, 1, "serve")


def test_a_database_without_our_schema_is_migrated_or_refused_as_the_settings_say(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, empty_database_url: str
) -> None:
    set_all(monkeypatch, DATABASE_URL=empty_database_url, FREYA_MIGRATE="0")
    assert "python -m server migrate" in said(capfd, 1, "serve", "--port", "0")
    assert run(["migrate"]) == 0
    assert "applied 0001_first" in capfd.readouterr().out
    assert run(["migrate"]) == 0
    assert "nothing to do" in capfd.readouterr().out
    assert run(["rotate-keys"]) == 0
    assert "every row is sealed with the first key" in capfd.readouterr().out


def test_a_taken_port_is_one_message_and_the_first_server_goes_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shared_database: str, server: Server
) -> None:
    set_all(monkeypatch, DATABASE_URL=shared_database)
    err = said(capfd, 1, "serve", "--port", server.place.split(":")[1])
    assert f"{server.place} is taken" in err
    assert get(f"http://{server.place}/healthz")[0] == 200


def test_pages_are_served(server: Server) -> None:
    assert get(f"http://{server.place}/readyz") == (200, '{"ready":true,"degraded":[]}')
    families = text_string_to_metric_families(get(f"http://{server.place}/metrics")[1])
    named = {family.name: family.type for family in families}
    for figure in (figure for _, figures in CATALOGUE for figure in figures):
        assert named[figure.name] == figure.kind
    assert "<title>Freya Push</title>" in get(f"http://{server.place}/")[1]
    assert json.loads(get(f"http://{server.place}/asyncapi.json")[1])["asyncapi"] == "3.0.0"
    assert get(f"http://{server.place}/nothing")[0] == 404


def test_a_token_is_printed_only_where_server_and_database_are_ones_own(server: Server) -> None:
    assert "#token=" not in "\n".join(server.lines)


def test_publish_watch_and_explain_tell_of_the_same_feed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shared_database: str, server: Server
) -> None:
    set_all(monkeypatch, DATABASE_URL=shared_database, PORT=server.place.split(":")[1])
    how = ["--title", "Hello", "--id", "one", "--expires", "1h", "--urgency", "1"]
    assert run(["publish", "alice", "bob", *how]) == 0
    assert "one: accepted by 2; seen at once by nobody" in capfd.readouterr().out
    assert run(["publish", "alice", "--item", '{"id": "two", "type": "t", "data": {}}']) == 0
    assert run(["publish", "alice", "--retract", "two"]) == 0
    assert "retracted 1" in capfd.readouterr().out
    for wrong in (["--item", "{"], ["--item", "[]"], []):
        assert run(["publish", "alice", *wrong]) == 2
    assert run(["publish", "alice", "--item", '{"id": "", "type": "t", "data": {}}']) == 1
    assert "the server says no" in capfd.readouterr().err

    with running("watch", "alice", "--url", server.url, settings=KEYS) as watch:
        watch.wait_line(r"\+ freya\.inbox/.* Hello")
        assert run(["explain", "--user", "alice"]) == 0
        explained = capfd.readouterr().out
        for part in ("connections: 1", "freya.inbox  active", "last changes"):
            assert part in explained
        assert run(["doctor"]) == 0
        assert "WRONG" not in capfd.readouterr().out


def test_a_command_finds_out_soon_that_no_server_is_there(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, PORT=str(free_port()))
    assert run(["publish", "alice", "--title", "x"]) == 1
    assert "is the server running there?" in capfd.readouterr().err


def test_a_refused_token_is_said_and_not_tried_for_ever(server: Server) -> None:
    with running("watch", "alice", "--url", server.url, "--token", "eyJh.eyJh.x", settings=KEYS) as watch:
        assert watch.wait_end() == 1
        watch.wait_line("sign in again")


def test_beyond_loopback_what_is_for_operators_has_its_own_address_or_asks_for_admin(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    set_all(monkeypatch)
    assert run(["token", "root", "--scope", "admin"]) == 0
    admin = capfd.readouterr().out.strip()
    ops = f"127.0.0.1:{free_port()}"
    settings = {"DATABASE_URL": database_url, "FREYA_HOST": "0.0.0.0", "FREYA_OPS_LISTEN": ops, **KEYS}
    with serving(settings=settings) as server:
        place = server.place.replace("0.0.0.0", "127.0.0.1")
        for path in ("/metrics", "/"):
            assert get(f"http://{place}{path}")[0] == 401
            assert get(f"http://{place}{path}", admin)[0] == 200
            assert get(f"http://{ops}{path}")[0] == 200
        assert get(f"http://{place}/readyz")[0] == 200


def test_a_second_signal_insists(database_url: str) -> None:
    patient = {"FREYA_DRAIN_DELAY_S": "300", "FREYA_DRAIN_S": "600"}
    with (
        serving(settings={"DATABASE_URL": database_url, **KEYS, **patient}) as server,
        running("watch", "alice", "--url", server.url, settings=KEYS) as watch,
    ):
        watch.wait_line(r"\blive\b")
        server.process.send_signal(signal.SIGTERM)
        server.wait_line("draining")
        assert get(f"http://{server.place}/readyz")[0] == 503
        assert get(f"http://{server.place}/healthz")[0] == 200
        assert server.end() == 0


def test_a_certificate_is_read_anew_on_sighup(database_url: str, tmp_path: Path) -> None:
    self_signed(tmp_path, "localhost")
    pem = tmp_path / "server.pem"

    def shown(place: str) -> bytes | None:
        host, port = place.split(":")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((host, int(port)), 20) as sock, context.wrap_socket(sock) as tls:
            return tls.getpeercert(binary_form=True)

    tls = {"FREYA_TLS_CERT": str(pem), "FREYA_TLS_KEY": str(pem)}
    with serving(settings={"DATABASE_URL": database_url, **KEYS, **tls}) as server:
        first = shown(server.place)
        assert first is not None
        pem.write_text("half a file")
        server.process.send_signal(signal.SIGHUP)
        server.wait_line("certificate_not_reloaded")
        assert shown(server.place) == first
        self_signed(tmp_path, "localhost")
        server.process.send_signal(signal.SIGHUP)
        server.wait_line("certificate_reloaded")
        assert shown(server.place) != first
        assert server.end(signal.SIGINT) == 0
        server.wait_line("stopped")


def test_doctor_names_everything_that_is_wrong_and_shows_no_secret(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    set_all(
        monkeypatch,
        DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{port}/x",
        REDIS_URL=f"redis://:hunter2@127.0.0.1:{port}",
        FREYA_JWKS="/does/not/exist",
        FREYA_CREDENTIAL_KEYS="a:b",
        FREYA_SESION_IDLE_TTL_S="1",
        FREYA_TLS_CERT="/no/cert",
        FREYA_TLS_KEY="/no/key",
    )
    assert run(["doctor"]) == 1
    out, err = capfd.readouterr()
    wrong = {line.split("  ")[1] for line in out.splitlines() if line.startswith("WRONG")}
    assert wrong == {"key ring", "certificate", "issuer keys", "database", "redis"}
    assert "FREYA_SESSION_IDLE_TTL_S" in out
    assert "hunter2" not in out + err


def test_doctor_finds_nothing_wrong_where_nothing_is(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str
) -> None:
    set_all(monkeypatch, DATABASE_URL=database_url, REDIS_URL=redis_url, PORT=str(free_port()))
    assert run(["doctor"]) == 0
    out = capfd.readouterr().out
    for what in ("token keys", "key ring", "database", "redis", "port"):
        assert f"ok     {what}" in out
