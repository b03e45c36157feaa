from __future__ import annotations

from protocol.errors import CLOSE_CODES, ERRORS
from protocol.messages import METHODS, NOTIFICATIONS
from server.protocol_docs import PARTS, render
from tests.support.programs import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text()


def test_the_tables_of_the_protocol_page_are_what_the_code_says() -> None:
    assert render(PAGE) == PAGE, "run: python -m server.protocol_docs docs/protocol.md"
    assert all(f"<!-- begin: {part} -->" in PAGE for part in PARTS)


def test_the_protocol_page_names_every_method_notification_error_and_close_code() -> None:
    for name in (*METHODS, *NOTIFICATIONS):
        assert f"`{name}`" in PAGE
    for code in (*ERRORS, *CLOSE_CODES):
        assert f"| {int(code)} |" in PAGE
