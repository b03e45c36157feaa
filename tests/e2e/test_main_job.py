"""The main job as a newcomer sees it: real processes, a real database, and a client that is none of ours."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from tests.e2e.conftest import token
from tests.support.programs import NODE, Program, running, serving

CLIENT = Path(__file__).parent / "foreign_client.mjs"


def ask(url: str, token: str, *calls: tuple[str, object]) -> list[dict[str, object]]:
    """What the server answers to a client of somebody else's making."""
    done = subprocess.run(
        [NODE, CLIENT, url, token, json.dumps(calls)], capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def act(source_id: str, action_id: str, params: object) -> tuple[str, object]:
    return "action.execute", {"sourceId": source_id, "actionId": action_id, "params": params}


def test_a_newcomer_sees_every_change_at_once_and_loses_nothing_to_a_kill(data_dir: Path) -> None:
    alice = token(data_dir, "alice", "--scope", "feed:context")
    backend = token(data_dir, "backend", "--scope", "item:publish")
    due = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    with serving("--data-dir", str(data_dir)) as server:
        place = server.place
        with watching(server.url, data_dir) as watch:
            watch.wait_line(r"\blive\b")
            watch.wait_line(r"\+ freya\.clock/greeting")

            moved, reminded, patched = ask(
                server.url,
                alice,
                act("freya.location", "update-location", {"lat": 51.5, "lng": -0.12, "accuracy": 10}),
                act("freya.reminders", "create-reminder", {"title": "Water the plants", "dueAt": due}),
                ("source.patch", {"sourceId": "freya.reminders", "config": {"includeCompleted": True}}),
            )
            assert moved["result"] == {"accepted": True}
            assert "Water the plants" in json.dumps(reminded)
            assert patched["config"] == {"includeCompleted": True}
            watch.wait_line(r"\+ freya\.clock/sun")  # it knows the place now
            watch.wait_line(r"\+ freya\.reminders/.* Water the plants")

            item = {"id": "door", "type": "message", "data": {"title": "The door is open"}}
            (published,) = ask(server.url, backend, ("item.publish", {"feed": "alice", "items": [item]}))
            assert published["accepted"] == 1
            watch.wait_line(r"\+ freya\.inbox/.* The door is open")

            (off,) = ask(server.url, alice, ("source.patch", {"sourceId": "freya.clock", "enabled": False}))
            assert (off["enabled"], off["status"]) == (False, "off")
            watch.wait_line(r"- freya\.clock/greeting")

            before = ask(server.url, alice, ("feed.get", {}))[0]
            assert server.end(signal.SIGKILL) == -signal.SIGKILL
            stale_at = len(watch.lines)
            watch.wait_line(r"\bstale\b")

            with serving("--data-dir", str(data_dir), "--port", place.split(":")[1]) as again:
                watch.wait_line(r"\blive\b", after=stale_at)
                after, sources = ask(again.url, alice, ("feed.get", {}), ("source.list", {}))
                assert after["items"] == before["items"]
                assert "Water the plants" in json.dumps(after)
                assert "The door is open" in json.dumps(after)
                rows = {row["sourceId"]: row for row in cast("list[dict[str, object]]", sources["sources"])}
                assert rows["freya.reminders"]["config"] == {"includeCompleted": True}
                assert rows["freya.clock"]["enabled"] is False
                signs = {line.split()[1] for line in watch.lines[stale_at:]}
                assert not signs & {"+", "-", "~"}, "what was on the screen stayed there"

                with running(
                    "explain", "alice", "--url", again.url, settings={"FREYA_DATA_DIR": str(data_dir)}
                ) as explain:
                    assert explain.wait_end() == 0
                    explain.wait_line("began with")
                assert again.end() == 0
                assert watch.end(signal.SIGINT) == 130
    assert not (data_dir / "pg" / "postmaster.pid").exists(), "the last one out stops the database"


def watching(url: str, data_dir: Path) -> AbstractContextManager[Program]:
    return running("watch", "alice", "--plain", "--url", url, settings={"FREYA_DATA_DIR": str(data_dir)})
