"""The published document, held against the reference parser."""

from __future__ import annotations

import subprocess
from pathlib import Path

import orjson

from protocol.messages import METHODS
from server.http.asyncapi import document
from tests.support.npm import npm_modules
from tests.support.programs import NODE

HERE = Path(__file__).parent


def test_the_reference_parser_finds_nothing_wrong_with_the_document() -> None:
    npm_modules(HERE)
    published = orjson.dumps(document())
    done = subprocess.run([NODE, HERE / "check.mjs"], input=published, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    *diagnostics, summary = done.stdout.decode().splitlines()
    assert [line for line in diagnostics if line.startswith("error")] == []
    version, operations = summary.split(", ")
    assert version.startswith("version 3.")
    assert int(operations.split()[0]) >= len(METHODS)
