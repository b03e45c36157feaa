"""Tokens: what is let in, what is refused and why, and that nothing in a token can choose how it is
checked.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import UserId
from server.tokens import (
    ALGORITHMS,
    Claims,
    MalformedKeys,
    TokenKey,
    TokenKeys,
    TokenOptions,
    TokenProblem,
    TokenVerifier,
    generate,
    mint,
)
from server.tokens.claims import check, read
from server.tokens.keys import Algorithm

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ALICE = UserId("alice")
KEYS = TokenKeys.parse(",".join(generate(algorithm, f"test-{algorithm}") for algorithm in ALGORITHMS))
HS256 = next(key for key in KEYS if key.algorithm == "HS256")
RS256 = next(key for key in KEYS if key.algorithm == "RS256")


class Hands:
    """A clock of one hand."""

    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> datetime:
        return self.at


def verifier(
    options: TokenOptions | None = None, keys: TokenKeys = KEYS, now: Callable[[], datetime] = lambda: NOW
) -> TokenVerifier:
    return TokenVerifier(keys, options or TokenOptions(), now)


def payload(**changes: object) -> dict[str, object]:
    usual: dict[str, object] = {"sub": "alice", "iat": NOW.timestamp(), "exp": NOW.timestamp() + 60}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def signed(claims: Mapping[str, object], key: TokenKey = HS256, **header: object) -> str:
    assert key.signs is not None
    return jwt.encode(dict(claims), key.signs, algorithm=key.algorithm, headers={"kid": key.kid} | header)


def by_hand(header: object, claims: object, secret: bytes) -> str:
    """A token with whatever header, signed with HMAC-SHA-256, as an attacker would make it."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.digest(secret, b".".join(parts), sha256)
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def refused(token: str, *, options: TokenOptions | None = None) -> TokenProblem:
    with pytest.raises(TokenProblem) as caught:
        verifier(options).verify(token)
    assert token == "" or token not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_minted_token_of_every_algorithm_gives_its_claims_back(algorithm: Algorithm) -> None:
    keys = TokenKeys.parse(generate(algorithm, "k1"))
    token = mint(keys, ALICE, now=NOW, ttl_s=60, scopes=["admin", "feed:watch"], feeds=["team-*"])

    claims = verifier(keys=keys).verify(token)

    assert claims == Claims(
        user=ALICE,
        scopes=frozenset({"admin", "feed:watch"}),
        feeds=("team-*",),
        iat=NOW,
        exp=NOW + timedelta(seconds=60),
    )


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "HS256"])
def test_the_public_half_of_a_key_verifies_and_cannot_sign(algorithm: Algorithm) -> None:
    both = TokenKeys.parse(generate(algorithm, "k1"))
    public = TokenKeys.parse(next(iter(both)).public_entry())

    assert verifier(keys=public).verify(mint(both, ALICE, now=NOW, ttl_s=60)).user == ALICE
    with pytest.raises(MalformedKeys, match="none of the keys can sign"):
        mint(public, ALICE, now=NOW, ttl_s=60)


def test_no_token_is_told_apart_from_a_wrong_one() -> None:
    assert refused("").kind == "missing"


@pytest.mark.parametrize(
    "token", ["x", "a.b.c", "..", "é.é.é", "\udcff", "e30.e30.", "x" * 7000, "null.null.null"]
)
def test_what_is_no_token_is_wrong_and_nothing_worse(token: str) -> None:
    assert refused(token).kind == "wrong"


@given(st.text(max_size=200))
def test_any_text_gives_claims_or_a_problem(text: str) -> None:
    with pytest.raises(TokenProblem):
        verifier().verify(text)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "HS512", "RS512", "PS256", None, 7, ["HS256"]])
def test_an_algorithm_off_the_list_is_refused(name: object) -> None:
    for kid in ({"kid": HS256.kid}, {}):
        unsigned = by_hand({"alg": name, "typ": "JWT"} | kid, payload(), b"")
        assert refused(unsigned).kind == "wrong"
        assert refused(unsigned.rpartition(".")[0] + ".").kind == "wrong"


def test_a_public_key_cannot_be_used_as_an_hmac_secret() -> None:
    assert isinstance(RS256.verifies, rsa.RSAPublicKey)
    for encoding in (pem.Encoding.PEM, pem.Encoding.DER):
        secret = RS256.verifies.public_bytes(encoding, pem.PublicFormat.SubjectPublicKeyInfo)
        for kid in ({"kid": RS256.kid}, {}):
            assert refused(by_hand({"alg": "HS256"} | kid, payload(), secret)).kind == "wrong"


def test_the_header_cannot_choose_the_algorithm_of_a_key() -> None:
    assert "algorithm" in refused(signed(payload(), kid=RS256.kid)).reason


def test_a_header_with_an_unknown_critical_extension_is_refused() -> None:
    assert refused(signed(payload(), crit=["x"], x=1)).kind == "wrong"


def test_keys_named_in_the_header_are_not_looked_at() -> None:
    own = TokenKeys.parse(generate("HS256", "mine"))
    forged = signed(
        payload(), next(iter(own)), kid=HS256.kid, jku="http://127.0.0.1:9/", jwk={"kty": "oct", "k": "AA"}
    )
    assert refused(forged).kind == "wrong"


def test_a_token_without_a_key_id_is_tried_with_the_keys_of_its_algorithm() -> None:
    token = by_hand({"alg": "HS256"}, payload(), HS256.verifies if isinstance(HS256.verifies, bytes) else b"")
    assert verifier().verify(token).user == ALICE


@pytest.mark.parametrize("place", [0, 1, 2])
def test_changing_any_part_of_a_token_makes_it_wrong(place: int) -> None:
    parts = signed(payload()).split(".")
    parts[place] = parts[place][:-4] + ("AAAA" if parts[place][-4:] != "AAAA" else "BBBB")
    assert refused(".".join(parts)).kind == "wrong"


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": "  "},
        {"sub": 7},
        {"sub": "a\x00b"},
        {"sub": "x" * 257},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": -1e300},
        {"iat": None},
        {"iat": []},
        {"nbf": "x"},
        {"scope": 7},
        {"scope": {"admin": True}},
        {"feeds": "team-*"},
        {"feeds": [1]},
        {"feeds": {}},
        {"feeds": ["x"] * 65},
    ],
)
def test_claims_that_are_missing_or_odd_make_a_token_wrong(changes: dict[str, object]) -> None:
    with pytest.raises(TokenProblem) as caught:
        read(payload(**changes), TokenOptions())
    assert caught.value.kind == "wrong"


@pytest.mark.parametrize("claims", [[], "x", 7, None])
def test_a_payload_that_is_no_object_is_wrong(claims: object) -> None:
    assert isinstance(HS256.verifies, bytes)
    assert refused(by_hand({"alg": "HS256", "kid": HS256.kid}, claims, HS256.verifies)).kind == "wrong"


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "iat", "nbf", "scope", "feeds", "aud", "iss", "jti"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            st.lists,
            max_leaves=4,
        ),
    )
)
def test_whatever_an_issuer_signs_gives_claims_or_a_problem(claims: dict[str, object]) -> None:
    try:
        found = read(claims, TokenOptions())
        check(found, NOW, TokenOptions())
    except TokenProblem:
        return
    assert found.user == claims["sub"]


@pytest.mark.parametrize("scope", ["admin feed:watch", " feed:watch  admin ", ["admin", "feed:watch"]])
def test_scopes_are_words_or_a_list(scope: object) -> None:
    assert read(payload(scope=scope), TokenOptions()).scopes == {"admin", "feed:watch"}


def test_an_empty_list_of_feeds_opens_none_and_a_missing_one_opens_all() -> None:
    assert read(payload(feeds=[]), TokenOptions()).feeds == ()
    assert read(payload(), TokenOptions()).feeds is None


def test_a_token_expires_on_time_plus_leeway_although_its_signature_is_remembered() -> None:
    hands = Hands()
    ours = verifier(TokenOptions(leeway_s=30), now=hands)
    token = signed(payload(exp=NOW.timestamp() + 60))
    assert ours.verify(token)

    hands.at = NOW + timedelta(seconds=89.9)
    assert ours.verify(token)
    hands.at = NOW + timedelta(seconds=90)
    with pytest.raises(TokenProblem) as caught:
        ours.verify(token)
    assert caught.value.kind == "expired"


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_from_the_future_is_wrong_beyond_the_leeway(claim: str) -> None:
    for ahead_s, good in ((29, True), (31, False)):
        token = signed(payload(**{claim: NOW.timestamp() + ahead_s}))
        if good:
            assert verifier(TokenOptions(leeway_s=30)).verify(token)
        else:
            assert refused(token, options=TokenOptions(leeway_s=30)).kind == "wrong"


def test_audience_and_issuer_are_asked_for_where_they_are_set() -> None:
    options = TokenOptions(audience="freya", issuer="https://id.example")
    for audience in ("freya", ["other", "freya"]):
        token = signed(payload(aud=audience, iss="https://id.example"))
        assert verifier(options).verify(token).user == ALICE
    assert (
        "audience" in refused(signed(payload(aud="other", iss="https://id.example")), options=options).reason
    )
    assert "audience" in refused(signed(payload(iss="https://id.example")), options=options).reason
    assert (
        "issuer" in refused(signed(payload(aud="freya", iss="https://else.example")), options=options).reason
    )
    assert "issuer" in refused(signed(payload(aud="freya")), options=options).reason
    assert verifier(options).verify(mint(KEYS, ALICE, now=NOW, ttl_s=60, options=options)).user == ALICE


class Issuer:
    """A `KeySource` that counts how often a key is asked for: once for each signature that is looked at."""

    def __init__(self, keys: TokenKeys) -> None:
        self.asked = 0
        self.version = 0
        self.next: TokenKeys | None = None
        self._keys = keys

    @property
    def keys(self) -> TokenKeys:
        self.asked += 1
        return self._keys

    def publish(self, keys: TokenKeys) -> None:
        self._keys, self.version = keys, self.version + 1

    async def read_anew(self) -> None:
        if self.next is not None:
            self.publish(self.next)


def issued(options: TokenOptions | None = None, keys: TokenKeys = KEYS) -> tuple[TokenVerifier, Issuer]:
    issuer = Issuer(keys)
    return TokenVerifier(TokenKeys(()), options or TokenOptions(), Hands(), published=issuer), issuer


def test_a_signature_is_looked_at_once() -> None:
    ours, issuer = issued()
    token = signed(payload())
    for _ in range(5):
        ours.verify(token)
    assert issuer.asked == 1


def test_the_memory_of_signatures_is_bounded_and_forgets_the_longest_unused() -> None:
    ours, issuer = issued(TokenOptions(cached_signatures=2))
    first, second, third = (signed(payload(jti=str(number))) for number in range(3))
    for token in (first, second, first, third, first):
        ours.verify(token)
    assert issuer.asked == 3
    ours.verify(second)
    assert issuer.asked == 4


def test_wrong_tokens_are_not_remembered() -> None:
    ours, issuer = issued()
    forged = signed(payload())[:-4] + "AAAA"
    for _ in range(2):
        with pytest.raises(TokenProblem):
            ours.verify(forged)
    assert issuer.asked == 2


def test_what_a_withdrawn_key_signed_is_refused_although_it_was_remembered() -> None:
    ours, issuer = issued()
    token = signed(payload())
    ours.verify(token)
    issuer.publish(TokenKeys.parse(generate("ES256", "other")))
    with pytest.raises(TokenProblem):
        ours.verify(token)


async def test_the_first_token_of_a_new_key_makes_the_keys_be_read_anew() -> None:
    ours, issuer = issued(keys=TokenKeys.parse(generate("ES256", "old")))
    with pytest.raises(TokenProblem):
        await ours.verify_fresh(signed(payload()))
    issuer.next = KEYS
    assert (await ours.verify_fresh(signed(payload()))).user == ALICE


async def test_without_published_keys_an_unknown_key_is_simply_wrong() -> None:
    with pytest.raises(TokenProblem, match="not known here"):
        await verifier().verify_fresh(signed(payload(), kid="unknown"))


def der(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | dsa.DSAPrivateKey) -> str:
    plain = key.private_bytes(pem.Encoding.DER, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    return base64.b64encode(plain).decode()


SHORT = base64.b64encode(b"x" * 31).decode()
LONG = base64.b64encode(b"x" * 32).decode()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no key"),
        (" , ", "no key"),
        (LONG, "entry 1 is not of the form KID:ALG:KEY"),
        (f"a:HS256:{LONG},b", "entry 2 is not of the form"),
        (f"a b:HS256:{LONG}", "entry 1 is not"),
        (f"a/b:HS256:{LONG}", "key id"),
        (f"a:none:{LONG}", "algorithm"),
        (f"a:hs256:{LONG}", "algorithm"),
        (f"a:HS256:{SHORT}", "at least 32 bytes"),
        (f"a:HS256:{LONG}!", "base64"),
        (f"a:HS256:{LONG[:-2]}", "key a"),
        (f"a:HS256:{LONG},a:HS256:{LONG}", "two keys are called a"),
        (f"a:ES256:{LONG}", "not a PEM or DER key"),
        ("a:ES256:file:/does/not/exist.pem", "can't be read"),
        (f"a:ES256:{der(ec.generate_private_key(ec.SECP384R1()))}", "P-256"),
        (f"a:RS256:{der(ec.generate_private_key(ec.SECP256R1()))}", "one for ES256"),
        (f"a:RS256:{der(dsa.generate_private_key(2048))}", "its kind is none of"),
        (f"a:RS256:{der(rsa.generate_private_key(65537, 1024))}", "2048 bits"),
    ],
)
def test_malformed_keys_are_named_without_being_shown(text: str, complaint: str) -> None:
    with pytest.raises(MalformedKeys, match=complaint) as caught:
        TokenKeys.parse(text)
    for part in text.replace(",", ":").split(":"):
        assert len(part) < 20 or part not in str(caught.value)


def test_keys_can_be_in_files(tmp_path: Path) -> None:
    folder = tmp_path
    private = ec.generate_private_key(ec.SECP256R1())
    (folder / "private.pem").write_bytes(
        private.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    )
    (folder / "public.pem").write_bytes(
        private.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    )
    (folder / "secret").write_text(LONG + "\n")

    signer = TokenKeys.parse(f"e:ES256:file:{folder}/private.pem,s:HS256:file:{folder}/secret")
    public = TokenKeys.parse(f"e:ES256:file:{folder}/public.pem")

    assert [key.algorithm for key in signer] == ["ES256", "HS256"]
    assert verifier(keys=public).verify(mint(signer, ALICE, now=NOW, ttl_s=60)).user == ALICE


def test_the_first_key_that_can_sign_signs() -> None:
    entries = [generate("ES256", "old"), generate("HS256", "new")]
    public_first = f"{next(iter(TokenKeys.parse(entries[0]))).public_entry()},{entries[1]}"
    token = mint(TokenKeys.parse(public_first), ALICE, now=NOW, ttl_s=60)
    assert jwt.get_unverified_header(token)["kid"] == "new"


def test_keys_show_nothing_of_themselves() -> None:
    assert isinstance(HS256.verifies, bytes)
    assert repr(HS256) == f"TokenKey(kid={HS256.kid!r}, algorithm='HS256')"


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
def test_a_token_that_has_expired_never_comes_back_to_life(moments: list[float]) -> None:
    claims, options = read(payload(), TokenOptions()), TokenOptions()

    def good(at_s: float) -> bool:
        try:
            check(claims, NOW + timedelta(seconds=at_s), options)
        except TokenProblem:
            return False
        return True

    held = [good(moment) for moment in sorted(moments)]
    assert all(earlier or not later for earlier, later in pairwise(held))
