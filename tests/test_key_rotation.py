"""The two changes of keys in docs/operations.md, step by step on two replicas: while a roll is under way, one
has the keys from before the step and the other those from after it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise, product

import pytest

from protocol.ids import SourceId, UserId
from server.tokens import TokenKeys, TokenProblem, TokenVerifier, generate, mint
from server.tokens.claims import TokenOptions
from server.tokens.keys import Algorithm
from storage.credentials import KeyRing, generate_key
from storage.errors import CredentialsUnreadable

ALICE, NEWS = UserId("alice"), SourceId("freya.news")
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECRET = {"password": "hush"}

# The keys at each step: before, appended, moved to the front, dropped.
STEPS = (("old",), ("old", "new"), ("new", "old"), ("new",))


def _texts(entries: dict[str, str]) -> list[str]:
    return [",".join(entries[name] for name in step) for step in STEPS]


def _accepted(signs: TokenKeys, checks: TokenKeys) -> bool:
    token = mint(signs, ALICE, now=NOW, ttl_s=60.0)
    try:
        return TokenVerifier(checks, TokenOptions(), lambda: NOW).verify(token).user == ALICE
    except TokenProblem:
        return False


def _opened(seals: KeyRing, opens: KeyRing) -> bool:
    blob = seals.encrypt(ALICE, NEWS, SECRET)
    try:
        return opens.decrypt(ALICE, NEWS, blob) == SECRET
    except CredentialsUnreadable:
        return False


@pytest.mark.parametrize("algorithm", ["HS256", "ES256", "EdDSA"])
def test_at_no_step_of_a_change_of_token_keys_is_a_good_token_refused(algorithm: Algorithm) -> None:
    texts = _texts({name: generate(algorithm, name) for name in ("old", "new")})
    steps = [TokenKeys.parse(text) for text in texts]
    for pair in pairwise(steps):
        assert all(_accepted(signs, checks) for signs, checks in product(pair, pair))
    # A step left out is a gap, in both directions: one replica would refuse what the other's key signed.
    assert not _accepted(steps[2], steps[0])
    assert not _accepted(steps[1], steps[3])


def test_at_no_step_of_a_change_of_credential_keys_are_credentials_unreadable() -> None:
    texts = _texts({name: generate_key(name) for name in ("old", "new")})
    steps = [KeyRing.parse(text) for text in texts]
    for pair in pairwise(steps):
        assert all(_opened(seals, opens) for seals, opens in product(pair, pair))
    assert not _opened(steps[2], steps[0])
    # What the old key sealed is why `rotate-keys` comes before the last step.
    assert not _opened(steps[1], steps[3])
