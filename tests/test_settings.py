"""Settings: defaults that stand, mistakes that are all named at once, and a page that tells the truth."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.options import listeners
from server.settings import Settings, SettingsError
from server.settings_docs import render

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FREYA_") or name in {"PORT", "DATABASE_URL", "REDIS_URL"}:
            monkeypatch.delenv(name)


def problems(monkeypatch: pytest.MonkeyPatch, **environ: str) -> dict[str, str]:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    return dict(caught.value.problems)


def test_the_defaults_are_those_of_a_newcomer() -> None:
    settings = Settings.load()
    assert settings.listening.host == "127.0.0.1"
    assert settings.listening.port == 8080
    assert settings.storage.database_url is None
    assert settings.sessions.default_sources == (
        "freya.user",
        "freya.location",
        "freya.inbox",
        "freya.reminders",
        "freya.clock",
    )


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PORT": "9000",
        "DATABASE_URL": "postgresql://u:p@h/d",
        "REDIS_URL": "rediss://h:1",
        "FREYA_DEFAULT_SOURCES": " freya.clock, freya.user ,",
        "FREYA_SYNTHETIC": "1",
        "FREYA_STALL_S": "7.5",
        "FREYA_PROXY_NETWORKS": "10.0.0.0/8,fd00::/8",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.listening.port == 9000
    assert settings.storage.database_url is not None
    assert settings.storage.database_url.get_secret_value() == "postgresql://u:p@h/d"
    assert settings.sessions.default_sources == ("freya.clock", "freya.user")
    assert settings.sources.synthetic
    assert settings.connections.stall_s == 7.5
    assert settings.listening.proxy_networks == ("10.0.0.0/8", "fd00::/8")


def test_who_declares_that_clients_come_directly_has_their_addresses_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FREYA_OPS_LISTEN", "127.0.0.1:9090")
    assert [each.counts_addresses for each in listeners(Settings.load(), None)] == [False, False]
    monkeypatch.setenv("FREYA_DIRECT_CLIENTS", "1")
    assert [each.counts_addresses for each in listeners(Settings.load(), None)] == [True, False]


def test_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.variables():
        monkeypatch.setenv(name, "")
    assert Settings.load() == Settings.load()
    assert Settings.load().listening.port == 8080


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("FREYA_HOST", "10.0.0.1")
    assert Settings.load(port=9001, host=None).listening.port == 9001
    assert Settings.load(port=9001, host=None).listening.host == "10.0.0.1"


def test_every_mistake_is_named_at_once_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(
        monkeypatch,
        PORT="99999",
        DATABASE_URL="mysql://root:hunter2@h/d",
        FREYA_DB_TIMEOUT_S="soon",
        FREYA_LOG_LEVEL="loud",
        FREYA_PROXY_NETWORKS="10.0.0.0/8,home",
        FREYA_OPS_LISTEN="9090",
        FREYA_OPEN_METEO_URL="ftp://x",
        FREYA_MAX_FEED_BYTES="9000000",
    )
    assert list(found) == [
        "PORT",
        "FREYA_OPS_LISTEN",
        "FREYA_PROXY_NETWORKS",
        "DATABASE_URL",
        "FREYA_DB_TIMEOUT_S",
        "FREYA_MAX_FEED_BYTES",
        "FREYA_OPEN_METEO_URL",
        "FREYA_LOG_LEVEL",
    ]
    assert found["PORT"] == "must be less than or equal to 65535"
    assert found["DATABASE_URL"] == "must begin with postgres:// or postgresql://"
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"FREYA_TLS_CERT": "cert.pem"}, "FREYA_TLS_CERT"),
        ({"FREYA_WORKERS": "2"}, "FREYA_WORKERS"),
        ({"FREYA_WEATHERKIT_KEY_ID": "k"}, "FREYA_WEATHERKIT_PRIVATE_KEY"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], variable: str
) -> None:
    assert list(problems(monkeypatch, **environ)) == [variable]


def test_a_misspelt_variable_is_noticed_and_the_right_one_named() -> None:
    environ = {"FREYA_SESION_IDLE_TTL_S": "1", "FREYA_DATA_DIR": "x", "HOME": "/"}
    assert Settings.unknown(environ) == [
        "FREYA_SESION_IDLE_TTL_S is not a setting; FREYA_SESSION_IDLE_TTL_S is"
    ]


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter2hunter2"
    for name, value in {
        "DATABASE_URL": f"postgres://u:{secret}@h",
        "REDIS_URL": f"redis://:{secret}@h",
        "FREYA_JWT_KEYS": secret,
        "FREYA_CREDENTIAL_KEYS": secret,
        "FREYA_LLM_API_KEY": secret,
        "FREYA_TFL_API_KEY": secret,
        "FREYA_LOG_SALT": secret,
    }.items():
        monkeypatch.setenv(name, value)
    assert secret not in repr(Settings.load())


@given(
    st.sampled_from(sorted(Settings.variables())),
    st.text(st.characters(exclude_characters="\0", codec="utf-8")),
)
def test_any_text_in_any_variable_gives_settings_or_a_named_mistake(name: str, value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        with suppress(SettingsError):
            Settings.load()


def test_every_setting_says_what_it_is_for() -> None:
    for name, info in Settings.variables().items():
        assert info.description, name
        assert name.endswith(("_S", "_MS")) == (_unit(info.json_schema_extra) in {"s", "ms", "1/s"}), name


def _unit(extra: object) -> object:
    return extra["unit"] if isinstance(extra, dict) else None  # pyright: ignore[reportUnknownVariableType] -- JSON


def test_the_page_of_settings_is_the_one_that_the_settings_write() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == render(), "run: python -m server.settings_docs > docs/configuration.md"


def test_every_setting_is_handed_to_somebody() -> None:
    files = [file for file in (ROOT / "server").rglob("*.py") if not file.name.startswith("settings")]
    code = "\n".join(file.read_text() for file in files)
    for group in Settings.groups().values():
        for name in group.model_fields:
            assert re.search(rf"\.{name}\b", code), f"{name} is read by nobody"


def test_nobody_else_reads_our_variables_from_the_environment() -> None:
    reading = re.compile(r"(environ|getenv)\b.*\b(FREYA_|DATABASE_URL|REDIS_URL|PORT)")
    for package in ("protocol", "storage", "server"):
        for file in (ROOT / package).rglob("*.py"):
            assert file.name == "settings.py" or not reading.search(file.read_text()), file
