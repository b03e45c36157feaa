"""What is shipped: a wheel that serves where no checkout is, and the files that run it elsewhere."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from typing import cast

import pytest
import yaml

from protocol.frozen import JsonObject
from server.settings import Settings
from server.tokens import generate
from storage.credentials import generate_key
from tests.support.programs import ROOT, bare_environment, serving

_PACKAGES = ("protocol", "storage", "server")
_DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _run(*arguments: str, cwd: Path, **settings: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**bare_environment(), "PYTHONWARNINGS": "default", **settings},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _wheel(folder: Path) -> Path:
    _run("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


def _sources() -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for package in _PACKAGES
        for path in (ROOT / package).rglob("*")
        if "__pycache__" not in path.parts and path.is_file()
    }


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


def test_a_wheel_serves_outside_the_checkout(tmp_path: Path, empty_database_url: str) -> None:
    wheel, site = _wheel(tmp_path / "dist"), tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not re.match(r"freya_push-[^/]+/", name)}
    assert packed == _sources()
    _run(
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
        cwd=tmp_path,
    )
    where = "import protocol, storage, server; print(protocol.__file__, storage.__file__, server.__file__)"
    for found in _run("-c", where, cwd=tmp_path, PYTHONPATH=str(site)).split():
        assert Path(found).is_relative_to(site)
    keys = {"FREYA_JWT_KEYS": generate("HS256", "test"), "FREYA_CREDENTIAL_KEYS": generate_key("test")}
    settings = {"DATABASE_URL": empty_database_url, "PYTHONPATH": str(site), **keys}
    # It begins with an empty database: the migrations, the dashboard and the client came along.
    with serving(settings=settings, cwd=tmp_path) as server:
        assert b"<html" in _get(f"http://{server.place}/")
        assert b"export" in _get(f"http://{server.place}/client.js")
        assert _get(f"http://{server.place}/client/index.js") == (ROOT / "protocol/js/index.js").read_bytes()
        _run(str(ROOT / "tools" / "healthcheck.py"), cwd=tmp_path, PORT=server.place.rpartition(":")[2])


def test_a_server_that_does_not_answer_is_not_healthy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "healthcheck.py"],
        env={**bare_environment(), "PORT": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("no answer")


def test_the_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", _DOCKERFILE, re.MULTILINE)
    assert [name for _, name in stages] == ["build", ""]
    last = _DOCKERFILE[_DOCKERFILE.rindex("\nFROM ") :]
    [user] = re.findall(r"^USER (\d+)$", last, re.MULTILINE)
    assert int(user) > 0
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT ")
    assert "\nHEALTHCHECK " in last
    # A shell in between would keep the signals to itself.
    assert re.search(r'^ENTRYPOINT \["freya"\]$', last, re.MULTILINE)
    assert "pip" not in re.sub(r"#.*", "", last)


def test_what_is_installed_into_the_image_is_pinned_and_of_no_named_host() -> None:
    assert "://" not in _DOCKERFILE
    installs = re.findall(r"pip install (.*)", _DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)


def test_the_image_has_the_build_backend_of_the_lock(tmp_path: Path) -> None:
    [script] = re.findall(r"sed (-n -E) '(.*)' requirements\.lock", _DOCKERFILE)
    found = subprocess.run(
        ["sed", *script[0].split(), script[1], ROOT / "requirements.lock"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    names = re.findall(r"^(\S+)==", found, re.MULTILINE)
    assert names == ["hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"]
    assert found.count("--hash=") >= len(names)


def test_everything_that_the_image_copies_is_there_and_let_through() -> None:
    let_through = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", _DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    }
    assert copied == let_through
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("NO HADOLINT: there is no wheel of it for this platform, the Dockerfile goes unchecked")

    def told(text: str) -> str:
        return subprocess.run(
            [linter, "--no-color", "-"], input=text, capture_output=True, text=True, timeout=60, check=False
        ).stdout

    assert told(_DOCKERFILE) == ""
    assert "DL3020" in told(_DOCKERFILE.replace("COPY tools/", "ADD tools/"))


def test_the_composition_is_as_the_specification_has_it(tmp_path: Path) -> None:
    def check(file: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
        return subprocess.run([*command, file], capture_output=True, text=True, timeout=60, check=False)

    assert check(ROOT / "compose.yaml").returncode == 0
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((ROOT / "compose.yaml").read_text().replace("depends_on:", "depends_no:"))
    done = check(wrong)
    assert done.returncode == 1
    assert "depends_no" in done.stdout


def _compose() -> JsonObject:
    return cast("JsonObject", yaml.safe_load((ROOT / "compose.yaml").read_text()))


@pytest.mark.parametrize("name", ["server", "postgres", "redis"])
def test_every_part_of_the_composition_is_restarted_and_watched(name: str) -> None:
    services = _compose()["services"]
    assert isinstance(services, dict)
    service = services[name]
    assert isinstance(service, dict)
    assert service["restart"] == "unless-stopped"
    # The server's own is in its image.
    assert name == "server" or "healthcheck" in service
    assert "ports" not in service or name == "server"


def test_the_composition_holds_no_secret_and_sets_only_what_is_a_setting() -> None:
    services = _compose()["services"]
    assert isinstance(services, dict)
    server = services["server"]
    assert isinstance(server, dict)
    environment = server["environment"]
    assert isinstance(environment, dict)
    assert environment.keys() <= Settings.variables().keys()
    for name in ("FREYA_JWT_KEYS", "FREYA_CREDENTIAL_KEYS"):
        assert environment[name] == f"${{{name}:?see compose.yaml}}"
    assert "${POSTGRES_PASSWORD:?" in str(environment["DATABASE_URL"])


def test_whoever_ends_the_server_waits_for_its_drain() -> None:
    settings = Settings.load().listening
    needed_s = settings.drain_s + 5
    services = _compose()["services"]
    assert isinstance(services, dict)
    server = services["server"]
    assert isinstance(server, dict)
    assert float(str(server["stop_grace_period"]).removesuffix("s")) >= needed_s
    unit = configparser.RawConfigParser(strict=False)
    unit.read(ROOT / "docs" / "freya-push.service")
    assert unit.getfloat("Service", "TimeoutStopSec") >= needed_s
    assert unit.get("Service", "User") == "freya"
    assert unit.get("Service", "ExecStart").endswith("/freya serve")
