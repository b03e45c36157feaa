"""Bodies within a bound."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.upstream.decoding import STEP_BYTES, BodyDecoder, BodyTooLarge, UndecodableBody

MIB = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def as_it_is(data: bytes) -> bytes:
    return data


CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "": as_it_is,
    "identity": as_it_is,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP ": gzip.compress,
    "deflate": zlib.compress,
}


def decode(coding: str, wire: bytes, most: int = MIB, chunk: int = 4096) -> bytes:
    decoder = BodyDecoder(coding, most)
    for at in range(0, len(wire), chunk):
        decoder.feed(wire[at : at + chunk])
        while decoder.step():
            pass
    return decoder.finish()


bodies = st.binary(max_size=3000) | st.integers(0, 200_000).map(lambda n: b"a" * n)
chunks = st.sampled_from([1, 2, 3, 7, 100, 4096])


@given(st.sampled_from(sorted(CODINGS)), bodies, chunks)
def test_a_body_comes_out_as_it_went_in_however_it_is_cut(coding: str, body: bytes, chunk: int) -> None:
    wire = CODINGS[coding](body)
    assert decode(coding, wire, chunk=chunk if len(wire) < 5000 else 4096) == body


@given(bodies, chunks)
def test_deflate_without_its_header_is_understood(body: bytes, chunk: int) -> None:
    assert decode("deflate", raw_deflate(body), chunk=chunk) == body


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), chunks)
def test_a_gzip_of_several_members_is_one_body(bodies: list[bytes], chunk: int) -> None:
    wire = b"".join(gzip.compress(body) for body in bodies)
    assert decode("gzip", wire, chunk=chunk) == b"".join(bodies)


def test_zeros_after_a_gzip_are_padding() -> None:
    assert decode("gzip", gzip.compress(b"news") + b"\0" * 512) == b"news"


@given(st.sampled_from(["gzip", "deflate"]), st.binary(min_size=1, max_size=2000), st.data())
def test_a_body_that_was_cut_off_is_noticed(coding: str, body: bytes, data: st.DataObject) -> None:
    wire = CODINGS[coding](body)
    cut = data.draw(st.integers(1, len(wire) - 1))
    with pytest.raises(UndecodableBody):
        decode(coding, wire[:cut])


@given(st.binary(min_size=2, max_size=200), chunks)
def test_any_bytes_are_a_body_or_named_undecodable(wire: bytes, chunk: int) -> None:
    for coding in ("gzip", "deflate"):
        with suppress(UndecodableBody):
            decode(coding, wire, chunk=chunk)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
def test_codings_that_nobody_asked_for_are_refused(coding: str) -> None:
    with pytest.raises(UndecodableBody):
        BodyDecoder(coding, MIB)


def test_an_empty_body_is_empty_in_every_coding() -> None:
    assert [decode(coding, b"") for coding in ("", "gzip", "deflate")] == [b"", b"", b""]


@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
def test_a_body_of_exactly_the_limit_fits_and_one_byte_more_does_not(coding: str) -> None:
    compress = CODINGS[coding]
    noise = zlib.compress(bytes(range(256)) * 64)[:1000] * 3
    assert decode(coding, compress(noise), most=len(noise) + (100 if coding else 0)) == noise
    with pytest.raises(BodyTooLarge):
        decode(coding, compress(b"a" * 100_001), most=100_000)


def test_a_compression_bomb_is_never_inflated_past_the_limit() -> None:
    decoder = BodyDecoder("gzip", MIB)
    decoder.feed(gzip.compress(b"\0" * (40 * MIB)))
    for _ in range(MIB // STEP_BYTES):
        assert decoder.step()
    with pytest.raises(BodyTooLarge):
        decoder.step()


def test_a_bomb_inside_a_bomb_stays_a_body_of_its_outer_size() -> None:
    inner = gzip.compress(b"\0" * (10 * MIB))
    assert decode("gzip", gzip.compress(inner)) == inner


def test_what_follows_the_end_of_a_compressed_body_does_not_pile_up() -> None:
    with pytest.raises(BodyTooLarge):
        decode("gzip", gzip.compress(b"done") + b"\0" * (2 * MIB), chunk=64 * 1024)


def test_one_step_inflates_no_more_than_its_share() -> None:
    decoder = BodyDecoder("gzip", 8 * MIB)
    decoder.feed(gzip.compress(b"x" * (4 * MIB)))
    steps = 1
    while decoder.step():
        steps += 1
    assert steps >= 4 * MIB // STEP_BYTES
    assert len(decoder.finish()) == 4 * MIB
