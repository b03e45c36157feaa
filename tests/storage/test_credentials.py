from __future__ import annotations

import base64

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frozen import JsonValue
from protocol.ids import SourceId, UserId
from storage import providers, source_configs
from storage.connection import connect
from storage.credentials import KeyRing, RotationProgress, generate_key, key_id_of, rotate
from storage.database import Database
from storage.errors import CredentialKeyMissing, CredentialsUnreadable
from tests.storage.waiting import until_someone_waits_for_a_lock

ALICE = UserId("alice")
BOB = UserId("bob")
NEWS = SourceId("freya.news")
SECRET = {"token": "hush-hush", "n": [1, None]}

OLD = generate_key("old")
NEW = generate_key("new")
RING = KeyRing.parse(f"{NEW},{OLD}")

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
names = st.text(min_size=1, max_size=40)


@given(names, names, json_values)
def test_what_was_sealed_opens_for_the_same_user_and_source(user: str, source: str, value: JsonValue) -> None:
    blob = RING.encrypt(UserId(user), SourceId(source), value)
    assert RING.decrypt(UserId(user), SourceId(source), blob) == value


@given(names, names, names, names)
def test_a_blob_moved_to_another_row_does_not_open(user: str, source: str, user2: str, source2: str) -> None:
    blob = RING.encrypt(UserId(user), SourceId(source), SECRET)
    if (user, source) == (user2, source2):
        assert RING.decrypt(UserId(user2), SourceId(source2), blob) == SECRET
    else:
        with pytest.raises(CredentialsUnreadable):
            RING.decrypt(UserId(user2), SourceId(source2), blob)


def test_no_two_rows_share_their_associated_data() -> None:
    # The same letters, cut elsewhere.
    blob = RING.encrypt(UserId("a:b"), SourceId("c"), SECRET)
    for user, source in (("a", "b:c"), ("a:b:", "c"), ("", "a:b:c")):
        with pytest.raises(CredentialsUnreadable):
            RING.decrypt(UserId(user), SourceId(source), blob)


def test_settings_and_credentials_do_not_open_as_each_other() -> None:
    blob = RING.encrypt_settings(NEWS, SECRET)
    assert RING.decrypt_settings(NEWS, blob) == SECRET
    with pytest.raises(CredentialsUnreadable):
        RING.decrypt(ALICE, NEWS, blob)
    with pytest.raises(CredentialsUnreadable):
        RING.decrypt_settings(NEWS, RING.encrypt(ALICE, NEWS, SECRET))


def test_the_first_key_seals_and_all_open() -> None:
    before = KeyRing.parse(OLD).encrypt(ALICE, NEWS, SECRET)
    after = RING.encrypt(ALICE, NEWS, SECRET)
    assert (key_id_of(before), key_id_of(after)) == ("old", "new")
    assert RING.decrypt(ALICE, NEWS, before) == RING.decrypt(ALICE, NEWS, after) == SECRET
    with pytest.raises(CredentialsUnreadable):
        KeyRing.parse(OLD).decrypt(ALICE, NEWS, after)


def test_the_same_secret_never_looks_the_same_twice() -> None:
    assert len({RING.encrypt(ALICE, NEWS, SECRET) for _ in range(100)}) == 100
    assert b"hush" not in RING.encrypt(ALICE, NEWS, SECRET)


def test_a_ring_without_a_key_seals_and_opens_nothing() -> None:
    empty = KeyRing.empty()
    with pytest.raises(CredentialKeyMissing):
        empty.encrypt(ALICE, NEWS, SECRET)
    with pytest.raises(CredentialsUnreadable):
        empty.decrypt(ALICE, NEWS, RING.encrypt(ALICE, NEWS, SECRET))
    assert empty.key_ids == ()


def test_another_key_under_the_same_id_opens_nothing() -> None:
    blob = RING.encrypt(ALICE, NEWS, SECRET)
    with pytest.raises(CredentialsUnreadable, match="connect again"):
        KeyRing.parse(generate_key("new")).decrypt(ALICE, NEWS, blob)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_blob_with_any_byte_changed_does_not_open(place: int, difference: int) -> None:
    blob = bytearray(RING.encrypt(ALICE, NEWS, SECRET))
    blob[place % len(blob)] ^= difference
    with pytest.raises(CredentialsUnreadable):
        RING.decrypt(ALICE, NEWS, bytes(blob))


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"\x01\x03new" + tail))
def test_bytes_that_are_no_blob_do_not_open(junk: bytes) -> None:
    with pytest.raises(CredentialsUnreadable):
        RING.decrypt(ALICE, NEWS, junk)


KEY = base64.b64encode(b"k" * 32).decode()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "ID:BASE64"),
        (KEY, "ID:BASE64"),
        (f"a b:{KEY}", "ID:BASE64"),
        (f"{'x' * 33}:{KEY}", "ID:BASE64"),
        (f"é:{KEY}", "ID:BASE64"),
        (f"a:{KEY},", "credential key 2"),
        (f"a:{KEY},a:{KEY}", "credential key 2 has the id of an earlier one"),
        (f"a:{KEY[:-1]}", "not base64"),
        (f"a:{KEY} x", "not base64"),
        (f"a:{KEY[:-2]}r=", "not base64"),  # the same bytes in another spelling
        ("a:" + KEY.replace("=", ""), "not base64"),
        ("a:" + "_" * 43 + "=", "not base64"),  # the alphabet of addresses
        ("a:" + base64.b64encode(b"k" * 31).decode(), "31 bytes long, not 32"),
        ("a:" + base64.b64encode(b"k" * 33).decode(), "33 bytes long, not 32"),
        ("a:", "0 bytes long"),
    ],
)
def test_a_malformed_ring_is_refused_without_showing_any_of_it(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refusal:
        KeyRing.parse(text)
    assert "kkkk" not in str(refusal.value)
    assert KEY[:8] not in str(refusal.value)
    assert refusal.value.__cause__ is None


@given(st.text(max_size=80))
def test_any_text_is_a_ring_or_a_readable_refusal(text: str) -> None:
    with pytest.raises(ValueError, match="credential key 1 "):
        KeyRing.parse(text)


def test_a_ring_reads_what_generate_key_writes_and_never_prints_it() -> None:
    ring = KeyRing.parse(f" {NEW} , {OLD} ")
    assert ring.key_ids == ("new", "old")
    assert repr(ring) == "KeyRing(new, old)"
    with pytest.raises(ValueError, match="key id"):
        generate_key("not/an/id")


async def put(database: Database, user: UserId, blob: bytes | None, source: SourceId = NEWS) -> None:
    async with database.write(user) as tx:
        await source_configs.put(tx, user, source, True, {}, blob)


async def credentials_of(database: Database, user: UserId) -> bytes:
    row = await source_configs.get(database, user, NEWS)
    assert row is not None
    assert row.credentials is not None
    return row.credentials


async def test_rotation_seals_everything_under_the_first_key_and_changes_no_version(
    database: Database,
) -> None:
    old_ring = KeyRing.parse(OLD)
    everyone = [UserId(f"user-{number}") for number in range(7)]
    for user in everyone:
        await put(database, user, old_ring.encrypt(user, NEWS, {"of": user}))
    await put(database, ALICE, RING.encrypt(ALICE, NEWS, SECRET))
    await put(database, BOB, None)
    async with database.write_global() as tx:
        await providers.put(tx, NEWS, old_ring.encrypt_settings(NEWS, SECRET))
    versions = await database.fetch("SELECT user_id, version FROM user_source_config ORDER BY user_id")
    alices = await credentials_of(database, ALICE)

    progress = [step async for step in rotate(database, RING, batch=3)]
    assert progress[0] == RotationProgress(0, 0, {"old": 8})
    assert progress[1] == RotationProgress(3, 0, {"old": 5})
    assert progress[-1] == RotationProgress(8, 0, {})
    for user in everyone:
        blob = await credentials_of(database, user)
        assert key_id_of(blob) == "new"
        assert RING.decrypt(user, NEWS, blob) == {"of": user}
    assert await credentials_of(database, ALICE) == alices
    settings = await providers.get(database, NEWS)
    assert settings is not None
    assert KeyRing.parse(NEW).decrypt_settings(NEWS, settings.settings) == SECRET
    assert versions == await database.fetch(
        "SELECT user_id, version FROM user_source_config ORDER BY user_id"
    )
    assert [step async for step in rotate(database, RING)] == [RotationProgress(0, 0, {})] * 2


async def test_a_rotation_that_was_stopped_goes_on_where_it_was(database: Database) -> None:
    old_ring = KeyRing.parse(OLD)
    for number in range(6):
        user = UserId(f"user-{number}")
        await put(database, user, old_ring.encrypt(user, NEWS, SECRET))
    begun = rotate(database, RING, batch=2)
    assert (await anext(begun)).left == {"old": 6}
    assert (await anext(begun)).left == {"old": 4}
    await begun.aclose()
    resumed = [step async for step in rotate(database, RING, batch=2)]
    assert resumed[0].left == {"old": 4}
    assert resumed[-1] == RotationProgress(4, 0, {})


async def test_rotation_leaves_what_does_not_open_alone_and_counts_it(database: Database) -> None:
    lost = KeyRing.parse(generate_key("lost")).encrypt(ALICE, NEWS, SECRET)
    carol = UserId("carol")
    moved = KeyRing.parse(OLD).encrypt(BOB, NEWS, SECRET)
    await put(database, ALICE, lost)
    await put(database, carol, moved)
    await put(database, UserId("dave"), b"\x07junk")
    await put(database, UserId("eve"), b"")
    await put(database, BOB, moved)
    last = [step async for step in rotate(database, RING, batch=2)][-1]
    assert last == RotationProgress(1, 4, {"lost": 1, "old": 1, "?": 2})
    assert await credentials_of(database, ALICE) == lost
    assert await credentials_of(database, carol) == moved


async def test_what_is_written_while_a_rotation_runs_stays(database_url: str, database: Database) -> None:
    old_ring = KeyRing.parse(OLD)
    for user in (ALICE, BOB):
        await put(database, user, old_ring.encrypt(user, NEWS, SECRET))
    newer = old_ring.encrypt(ALICE, NEWS, {"newer": True})
    last: list[RotationProgress] = []
    writer = await connect(database_url, timeout_s=10, settings={})
    try:
        await writer.execute("BEGIN")
        await writer.execute("UPDATE user_source_config SET credentials = $1 WHERE user_id = 'alice'", newer)
        async with anyio.create_task_group() as group:

            async def rotate_all() -> None:
                last.extend([step async for step in rotate(database, RING)][-1:])

            group.start_soon(rotate_all)
            # By now it has read and opened the old blob, and waits to replace it.
            await until_someone_waits_for_a_lock(database)
            await writer.execute("COMMIT")
    finally:
        writer.terminate()
    assert last == [RotationProgress(1, 0, {"old": 1})]
    assert await credentials_of(database, ALICE) == newer


async def test_nothing_rotates_without_a_key(database: Database) -> None:
    with pytest.raises(CredentialKeyMissing):
        await anext(rotate(database, KeyRing.empty()))
