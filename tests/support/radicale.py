"""A real CalDAV server of the tests' own: Radicale on loopback, with a folder that goes with it."""

from __future__ import annotations

import base64
import http.client
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.sax.saxutils import escape

from tests.support.ports import free_port
from tests.support.reaper import Reaper

__all__ = ["Radicale"]

PATIENCE_S = 30.0

_CONFIG = """\
[server]
hosts = 127.0.0.1:{port}
[auth]
type = htpasswd
htpasswd_filename = {folder}/users
htpasswd_encryption = plain
delay = 0
[storage]
filesystem_folder = {folder}/collections
[logging]
level = error
"""


class Radicale:
    """One server. `anna` with the password `secret` has an account; her calendars are what a test makes."""

    USER, PASSWORD = "anna", "secret"

    def __init__(self, reaper: Reaper) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="freya-radicale-"))
        reaper.remove(self._folder)
        (self._folder / "users").write_text(f"{self.USER}:{self.PASSWORD}\n")
        self.port = free_port()
        config = self._folder / "config"
        config.write_text(_CONFIG.format(port=self.port, folder=self._folder))
        command = [sys.executable, "-m", "radicale", "--config", str(config)]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        reaper.kill(self._process.pid)
        self._reaper = reaper
        self._wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def make_calendar(self, name: str, title: str) -> None:
        """A calendar of Anna's, empty."""
        body = (
            '<c:mkcalendar xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><d:set>'
            f"<d:prop><d:displayname>{escape(title)}</d:displayname></d:prop></d:set></c:mkcalendar>"
        )
        assert self.ask("MKCALENDAR", f"/{self.USER}/{name}/", body) == 201

    def put(self, calendar: str, name: str, text: str) -> None:
        """One event (with its exceptions) in a calendar."""
        path = f"/{self.USER}/{calendar}/{name}.ics"
        status = self.ask("PUT", path, text, {"Content-Type": "text/calendar"})
        assert status in (201, 204), f"{name}: {status}\n{self.log()}"

    def put_past_all_checks(self, calendar: str, name: str, text: str) -> None:
        """What the server would refuse to take, as an older one may have taken it."""
        folder = self._folder / "collections" / "collection-root" / self.USER / calendar
        (folder / f"{name}.ics").write_text(text)

    def delete(self, path: str) -> None:
        assert self.ask("DELETE", f"/{self.USER}/{path}") in (200, 204)

    def clear(self) -> None:
        """As at the beginning."""
        for account in (self._folder / "collections" / "collection-root").glob("*"):
            shutil.rmtree(account)

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._reaper.spare(self._process.pid)

    def ask(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> int:
        login = base64.b64encode(f"{self.USER}:{self.PASSWORD}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(
                method, path, body.encode(), {"Authorization": f"Basic {login}", **(headers or {})}
            )
            return connection.getresponse().status
        finally:
            connection.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"Radicale ended:\n{self.log()}"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"Radicale does not answer:\n{self.log()}")
