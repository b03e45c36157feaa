"""Every command that the README and the docs name is there with its options; the README's examples run."""

from __future__ import annotations

import logging
import os
import re
import shlex
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import orjson
import pytest
import structlog
import typer
from anyio import fail_after, to_thread

from protocol.client import connect
from server.cli.main import app, run
from tests.support.programs import ROOT, serving

PATIENCE_S = 60.0
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = [*PAGES, ROOT / "Procfile", ROOT / "compose.yaml", ROOT / "docs" / "freya-push.service"]
README = (ROOT / "README.md").read_text()
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] -- a group is made of several

# What stands for something of the reader's own.
PLACES = {"USER": "alice", "USER...": "alice", "TEXT": "text", "$PORT": "8080", "${PORT:-8080}": "8080"}


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that runs in here sends the log to this test's own standard error, which ends with it."""
    yield
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


def _code(text: str) -> Iterator[str]:
    """Lines in fences, and what stands between backticks."""
    parts = re.split(r"^```.*$", text, flags=re.MULTILINE)
    for number, part in enumerate(parts):
        yield from part.splitlines() if number % 2 else re.findall(r"`([^`\n]+)`", part)


def _ours() -> Iterator[tuple[str, list[str]]]:
    """(where, arguments) of each of our commands."""
    for file in FILES:
        text = file.read_text()
        for line in _code(text) if file.suffix == ".md" else text.splitlines():
            bare = re.sub(r"\s#.*|\s{2,}.*", "", line.strip("# "))
            found = re.search(r"(?:python -m server|docker run --rm freya-push|bin/freya|^freya) (.+)", bare)
            if found and not found[1].startswith("COMMAND"):
                yield file.name, [PLACES.get(word, word) for word in shlex.split(found[1])]
    # The README's table has them by their names alone.
    for span in re.findall(r"`([^`\n]+)`", README):
        if span.split()[0] in COMMANDS:
            yield "README.md", [PLACES.get(word, word) for word in shlex.split(span)]


OURS = {" ".join(arguments): (where, arguments) for where, arguments in _ours()}


def test_commands_are_found_in_the_docs() -> None:
    assert len(OURS) > 15
    assert {"serve", "migrate", "watch", "keygen", "rotate-keys", "explain", "doctor"} <= {
        arguments[0] for _, arguments in OURS.values()
    }


@pytest.mark.parametrize("text", sorted(OURS))
def test_a_command_of_the_docs_is_there_with_its_options(text: str) -> None:
    where, [name, *rest] = OURS[text]
    assert name in COMMANDS, where
    # Reads the arguments, and complains of any that is wrong; it runs nothing.
    COMMANDS[name].make_context(name, rest).close()


def test_every_target_of_make_that_is_named_is_there_and_in_its_help() -> None:
    for page in PAGES:
        for line in _code(page.read_text()):
            for target in re.findall(r"^make (\w+)", line):
                assert target in TARGETS, f"{page.name}: make {target}"
    told = set(re.findall(r"^#   make (\w+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert told == TARGETS - {"help"}


def _block(language: str, containing: str) -> str:
    [found] = [
        text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text
    ]
    return found


async def test_what_the_readme_tells_to_type_works(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("FREYA_")]:
        monkeypatch.delenv(name)
    assert run(["keygen", "jwt"]) == 0
    assert run(["keygen", "credentials"]) == 0
    keys = dict(zip(("FREYA_JWT_KEYS", "FREYA_CREDENTIAL_KEYS"), capfd.readouterr().out.split(), strict=True))
    settings = {"DATABASE_URL": database_url, "FREYA_DATA_DIR": str(tmp_path), **keys}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert run(["token", "alice"]) == 0
    token = capfd.readouterr().out.strip()
    context = serving(settings=settings)
    server = await to_thread.run_sync(context.__enter__)
    try:
        async with connect(server.url, token) as feed:
            with fail_after(PATIENCE_S):
                for line in _block("json", "update-location").splitlines():
                    asked = orjson.loads(line)
                    await feed.call(asked["method"], asked["params"])
                states = await feed.call("source.list")
                enabled = {state["sourceId"]: state["enabled"] for state in cast("Any", states)["sources"]}
                assert enabled["freya.clock"] is False
                await _until_printed(_example(server.url, token), "freya.clock/", capfd)
    finally:
        await to_thread.run_sync(context.__exit__, None, None, None)


def _example(url: str, token: str) -> Callable[[], Coroutine[None, None, None]]:
    """The README's Python, as a function."""
    code = _block("python", "async with connect").replace("ws://127.0.0.1:8080", url)
    names: dict[str, Any] = {"token": token}
    exec("async def example():\n" + textwrap.indent(code, "    "), names)
    return names["example"]


async def _until_printed(
    example: Callable[[], Coroutine[None, None, None]], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(example)
        printed = ""
        while text not in printed:
            await anyio.sleep(0.05)
            printed += capfd.readouterr().out
        tasks.cancel_scope.cancel()
