"""An issuer's published keys: read, read anew, gone for a while, withdrawn."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from server.tokens import MalformedKeys, TokenKey, TokenKeys, generate
from server.tokens.jwks import JwksOptions, JwksUnavailable, PublishedKeys, parse
from server.tokens.keys import Algorithm
from tests.support.clock import TestClock


def made(algorithm: Algorithm) -> TokenKey:
    return next(iter(TokenKeys.parse(generate(algorithm, "x"))))


def jwk(key: TokenKey, **members: object) -> dict[str, object]:
    match key.verifies:
        case EllipticCurvePublicKey() as public:
            written = ECAlgorithm.to_jwk(public, as_dict=True)
        case RSAPublicKey() as public:
            written = RSAAlgorithm.to_jwk(public, as_dict=True)
        case Ed25519PublicKey() as public:
            written = OKPAlgorithm.to_jwk(public, as_dict=True)
        case bytes():
            raise AssertionError("secrets are not published")
    return {**written, **members}


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


EC, RSA, ED = made("ES256"), made("RS256"), made("EdDSA")
SECRET = {"kty": "oct", "k": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg", "kid": "s", "alg": "HS256"}


def test_every_kind_of_key_that_we_take_is_read() -> None:
    found = parse(key_set(jwk(EC, kid="a"), jwk(RSA, kid="b"), jwk(ED, kid="c")))
    assert {key.kid: key.algorithm for key in found} == {"a": "ES256", "b": "RS256", "c": "EdDSA"}


@pytest.mark.parametrize(
    "other",
    [
        SECRET,
        jwk(RSA, kid="s", use="enc"),
        jwk(RSA, kid="s", alg="PS256"),
        jwk(EC, kid="s", crv="P-384"),
        {"kty": "EC"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "s"},
        {},
        7,
        None,
    ],
)
def test_what_is_no_key_for_our_signatures_is_passed_over(other: object) -> None:
    assert [key.kid for key in parse(key_set(other, jwk(EC, kid="a")))] == ["a"]
    with pytest.raises(MalformedKeys, match="no key in it"):
        parse(key_set(other))


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b"{}", b'{"keys": 7}', b"\xff", b"null"])
def test_what_is_no_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedKeys):
        parse(data)


@asynccontextmanager
async def running(published: PublishedKeys) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as group:
        await group.start(published.run)
        yield
        group.cancel_scope.cancel()


async def test_a_file_is_read_anew_from_time_to_time(tmp_path: Path, clock: TestClock) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(jwk(EC, kid="a")))
    published = PublishedKeys(JwksOptions(location=str(file), refresh_s=300), clock.monotonic)
    async with running(published):
        assert published.keys.get("a") is not None
        file.write_bytes(key_set(jwk(RSA, kid="b")))
        await clock.advance_until(lambda: published.version == 2, limit_s=301, quiet_s=0.05)
        assert [key.kid for key in published.keys] == ["b"]


async def test_an_unchanged_set_is_no_new_version(tmp_path: Path, clock: TestClock) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(jwk(EC, kid="a")))
    published = PublishedKeys(JwksOptions(location=str(file)), clock.monotonic)
    async with running(published):
        await published.read_anew()
        await clock.advance(20)
        await published.read_anew()
        assert published.version == 1


async def test_an_outage_changes_nothing_until_the_keys_are_too_old(tmp_path: Path, clock: TestClock) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(jwk(EC, kid="a")))
    options = JwksOptions(location=str(file), refresh_s=300, max_age_s=1000)
    published = PublishedKeys(options, clock.monotonic)
    async with running(published):
        file.unlink()
        await clock.advance_until(lambda: published.failures == 3, limit_s=901, quiet_s=0.05)
        assert len(published.keys) == 1
        await clock.advance_until(lambda: published.failures == 4, limit_s=301, quiet_s=0.05)
        assert len(published.keys) == 0
        file.write_bytes(key_set(jwk(EC, kid="a")))
        await clock.advance_until(lambda: len(published.keys) == 1, limit_s=301, quiet_s=0.05)


async def test_a_start_without_keys_is_refused_with_the_place_named(tmp_path: Path, clock: TestClock) -> None:
    published = PublishedKeys(JwksOptions(location=str(tmp_path / "none.json")), clock.monotonic)
    with pytest.raises(JwksUnavailable, match=r"none\.json"):
        await published.run()


class Issuer:
    """A real HTTP server on loopback that answers what it is told to."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.body = key_set(jwk(EC, kid="a"))
        self.more = ""
        self.asked = 0
        self.port = 0

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener:
            task_status.started()
            await listener.serve(self._answer)

    async def _answer(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive()
            self.asked += 1
            head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\n{self.more}"
            await stream.send(head.encode() + b"Connection: close\r\n\r\n" + self.body)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    async with anyio.create_task_group() as group:
        await group.start(issuer.serve)
        yield issuer
        group.cancel_scope.cancel()


async def test_keys_are_fetched_from_an_address(issuer: Issuer) -> None:
    published = PublishedKeys(
        JwksOptions(location=f"http://127.0.0.1:{issuer.port}/jwks"), anyio.current_time
    )
    async with running(published):
        assert published.keys.get("a") is not None


@pytest.mark.parametrize(
    ("status", "more", "body"),
    [
        ("500 Oh", "", b"{}"),
        ("302 Found", "Location: http://127.0.0.1:1/\r\n", b""),
        ("200 OK", "", b"<html>"),
        ("200 OK", "", b" " * 300_000),
    ],
)
async def test_a_bad_answer_is_an_outage(issuer: Issuer, status: str, more: str, body: bytes) -> None:
    published = PublishedKeys(
        JwksOptions(location=f"http://127.0.0.1:{issuer.port}/jwks"), anyio.current_time
    )
    issuer.status, issuer.more, issuer.body = status, more, body
    with pytest.raises(JwksUnavailable):
        await published.run()


async def test_unknown_keys_cause_one_reading_however_many_ask(issuer: Issuer) -> None:
    now_s = 1000.0
    published = PublishedKeys(JwksOptions(location=f"http://127.0.0.1:{issuer.port}/jwks"), lambda: now_s)
    async with running(published):
        now_s += 60
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(published.read_anew)
        assert issuer.asked == 2
        now_s += 5
        await published.read_anew()
        assert issuer.asked == 2
        now_s += 10
        await published.read_anew()
        assert issuer.asked == 3


async def test_a_reading_that_fails_beside_a_token_is_no_error_of_the_token(issuer: Issuer) -> None:
    now_s = 1000.0
    published = PublishedKeys(JwksOptions(location=f"http://127.0.0.1:{issuer.port}/jwks"), lambda: now_s)
    async with running(published):
        issuer.status = "500 Oh"
        now_s += 60
        await published.read_anew()
        assert published.failures == 1
        assert len(published.keys) == 1
