"""freya token and freya keygen: what they print, and how they say no."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.cli.main import run
from server.cli.stop import Stop
from server.cli.token import expand, seconds
from server.tokens import Claims, TokenKeys, TokenOptions, TokenVerifier
from storage.credentials import KeyRing

ROOT = Path(__file__).parent.parent.parent


def claims(token: str, data_dir: Path) -> Claims:
    keys = TokenKeys.parse((data_dir / "jwt.keys").read_text())
    return TokenVerifier(keys, TokenOptions(), lambda: datetime.now(UTC)).verify(token)


def test_token_prints_the_token_and_nothing_else(
    capfd: pytest.CaptureFixture[str], own_settings: Path
) -> None:
    assert (
        run(["token", "alice", "--scope", "admin", "--scope", "feed:watch,item:publish", "--feeds", "a*"])
        == 0
    )
    out, err = capfd.readouterr()
    assert err == ""
    found = claims(out.removesuffix("\n"), own_settings)
    assert (found.user, found.feeds) == ("alice", ("a*",))
    assert found.scopes == {"admin", "feed:watch", "item:publish"}


def test_token_takes_the_user_as_an_option_too(capfd: pytest.CaptureFixture[str], own_settings: Path) -> None:
    assert run(["token", "--user", "alice", "--ttl", "15m"]) == 0
    found = claims(capfd.readouterr().out.strip(), own_settings)
    assert found.user == "alice"
    assert (found.exp - found.iat).total_seconds() == 900


def test_token_for_many_users_is_one_a_line(capfd: pytest.CaptureFixture[str], own_settings: Path) -> None:
    assert run(["token", "--users", "load-{0..99}"]) == 0
    tokens = capfd.readouterr().out.splitlines()
    assert [claims(token, own_settings).user for token in tokens] == [
        f"load-{number}" for number in range(100)
    ]


def test_token_starts_no_database(capfd: pytest.CaptureFixture[str], own_settings: Path) -> None:
    assert run(["token", "alice"]) == 0
    assert [path.name for path in own_settings.iterdir()] == ["jwt.keys"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["token"], "name one user"),
        (["token", "alice", "--users", "b"], "name one user"),
        (["token", "alice", "--scope", "root"], "root is not a scope"),
        (["token", "alice", "--ttl", "soon"], "soon is not a duration"),
        (["token", "--users", "{0..9999999}"], "more than 1,000,000"),
        (["nonsense"], "nonsense"),
    ],
)
def test_what_was_asked_wrongly_is_explained_in_one_line_with_code_2(
    capfd: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert complaint in err
    assert "Traceback" not in err


def test_wrong_settings_are_all_named_with_code_2(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("FREYA_DB_TIMEOUT_S", "-1")
    assert run(["token", "alice"]) == 2
    assert [line.split(":")[0] for line in capfd.readouterr().err.splitlines()] == [
        "freya",
        "  PORT",
        "  FREYA_DB_TIMEOUT_S",
    ]


def test_malformed_keys_are_one_message_with_code_1(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREYA_JWT_KEYS", "k:HS256:c2hvcnQ=")
    assert run(["token", "alice"]) == 1
    err = capfd.readouterr().err
    assert "FREYA_JWT_KEYS" in err
    assert "c2hvcnQ" not in err


def test_whoever_reads_may_stop_reading(own_settings: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m server token --users '{{0..2000}}' | head -n 1"],
        cwd=ROOT,
        env=os.environ | {"FREYA_DATA_DIR": str(own_settings)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_keygen_prints_a_credential_key(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["keygen"], ["keygen", "credentials"]):
        assert run(arguments) == 0
        assert len(KeyRing.parse(capfd.readouterr().out.strip()).key_ids) == 1


@pytest.mark.parametrize("algorithm", ["HS256", "ES256", "RS256", "EdDSA"])
def test_keygen_prints_a_token_key_of_each_algorithm(
    capfd: pytest.CaptureFixture[str], algorithm: str
) -> None:
    assert run(["keygen", "jwt", "--alg", algorithm]) == 0
    (key,) = TokenKeys.parse(capfd.readouterr().out)
    assert key.algorithm == algorithm
    assert key.signs is not None


def test_keygen_gives_the_public_half_of_a_key(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    for algorithm, code in (("ES256", 0), ("HS256", 2)):
        assert run(["keygen", "jwt", "--alg", algorithm]) == 0
        monkeypatch.setattr("sys.stdin", io.StringIO(capfd.readouterr().out))
        assert run(["keygen", "jwt", "--public"]) == code
        out = capfd.readouterr().out
        assert code or next(iter(TokenKeys.parse(out))).signs is None


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", ["a"]),
        ("a-{0..2}", ["a-0", "a-1", "a-2"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("{}", [""]),
        ("a{", ["a{"]),
    ],
)
def test_braces_mean_what_they_mean_in_a_shell(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("1.5h", 5400), ("7d", 604_800)])
def test_durations_have_a_unit_or_are_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "h", "1e9"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Stop):
        seconds(text)
