"""Where keys come from, and when they are made."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.keys import CREDENTIAL_FILE, JWT_FILE, KeysUnusable, credential_ring, token_keys
from server.settings import Settings
from server.tokens import generate
from storage.credentials import generate_key

ELSEWHERE = "postgresql://db.example/freya"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FREYA_JWT_KEYS", "FREYA_CREDENTIAL_KEYS", "FREYA_JWKS", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def settings(data_dir: Path, **overrides: object) -> Settings:
    return Settings.load(data_dir=data_dir, **overrides)


def test_the_embedded_mode_makes_keys_that_only_their_owner_can_read(tmp_path: Path) -> None:
    ours = settings(tmp_path / "data")
    assert token_keys(ours).signer is not None
    assert len(credential_ring(ours).key_ids) == 1
    for file in (JWT_FILE, CREDENTIAL_FILE):
        assert stat.S_IMODE((tmp_path / "data" / file).stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted([JWT_FILE, CREDENTIAL_FILE])


def test_keys_once_made_stay(tmp_path: Path) -> None:
    ours = settings(tmp_path)
    assert list(token_keys(ours)) == list(token_keys(ours))
    assert credential_ring(ours).key_ids == credential_ring(ours).key_ids


def test_many_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    ours = settings(tmp_path / "data")
    with ThreadPoolExecutor(8) as pool:
        found = [list(keys) for keys in pool.map(token_keys, [ours] * 32)]
    assert all(keys == found[0] for keys in found)


def test_variables_win_over_files(tmp_path: Path) -> None:
    (tmp_path / JWT_FILE).write_text(generate("HS256", "file"))
    (tmp_path / CREDENTIAL_FILE).write_text(generate_key("file"))
    ours = settings(tmp_path, jwt_keys=generate("HS256", "env"), credential_keys=generate_key("env"))
    assert [key.kid for key in token_keys(ours)] == ["env"]
    assert credential_ring(ours).key_ids == ("env",)


def test_files_serve_a_shared_database_too(tmp_path: Path) -> None:
    (tmp_path / JWT_FILE).write_text(generate("HS256", "file"))
    (tmp_path / CREDENTIAL_FILE).write_text(generate_key("file"))
    ours = settings(tmp_path, database_url=ELSEWHERE)
    assert [key.kid for key in token_keys(ours)] == ["file"]
    assert credential_ring(ours).key_ids == ("file",)


def test_beside_a_shared_database_no_key_is_made_and_the_way_out_is_named(tmp_path: Path) -> None:
    ours = settings(tmp_path / "data", database_url=ELSEWHERE)
    with pytest.raises(KeysUnusable, match=r"FREYA_JWT_KEYS .*keygen jwt"):
        token_keys(ours)
    assert credential_ring(ours).key_ids == ()
    assert not (tmp_path / "data").exists()


def test_an_issuer_that_publishes_its_keys_is_enough(tmp_path: Path) -> None:
    assert list(token_keys(settings(tmp_path, database_url=ELSEWHERE, jwks="https://id.example/jwks"))) == []


@pytest.mark.parametrize("text", ["nonsense", "a:HS256:c2hvcnQ=", ""])
def test_malformed_keys_are_refused_with_their_place_and_without_their_text(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / JWT_FILE).write_text(text)
    (tmp_path / CREDENTIAL_FILE).write_text(text)
    for read, file in ((token_keys, JWT_FILE), (credential_ring, CREDENTIAL_FILE)):
        with pytest.raises(KeysUnusable, match=file) as caught:
            read(settings(tmp_path))
        assert "c2hvcnQ" not in str(caught.value)
    with pytest.raises(KeysUnusable, match="FREYA_CREDENTIAL_KEYS"):
        credential_ring(settings(tmp_path, credential_keys="a:b"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / JWT_FILE).mkdir()
    with pytest.raises(KeysUnusable, match=JWT_FILE):
        token_keys(settings(tmp_path))
