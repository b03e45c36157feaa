"""When a socket is pinged, taken for dead, or taken for stuck."""

from __future__ import annotations

from server.push.line import Line, LineCheck, Stop

GRACE, STALL = 10.0, 900.0


def check(line: Line, now: float, buffered: int = 0) -> LineCheck:
    return line.check(now, GRACE, STALL, buffered)[0]


def test_a_ping_is_due_after_a_heartbeat_of_silence() -> None:
    line = Line(25.0, 100.0)
    assert check(line, 124.9) is LineCheck.FINE
    assert check(line, 125.0) is LineCheck.PING


def test_a_client_that_talks_is_still_pinged_while_we_are_silent() -> None:
    line = Line(25.0, 100.0)
    line.heard = 124.0
    assert check(line, 125.0) is LineCheck.PING


def test_a_server_that_talks_still_pings_a_silent_client() -> None:
    line = Line(25.0, 100.0)
    line.sent = 124.0
    assert check(line, 125.0) is LineCheck.PING


def test_traffic_both_ways_spares_the_ping() -> None:
    line = Line(25.0, 100.0)
    line.heard = line.sent = 120.0
    assert check(line, 125.0) is LineCheck.FINE
    assert check(line, 145.0) is LineCheck.PING


def test_a_client_that_says_nothing_for_a_heartbeat_and_ten_seconds_is_silent() -> None:
    line = Line(25.0, 100.0)
    line.ping(125.0)
    assert check(line, 134.9) is LineCheck.FINE
    assert check(line, 135.0) is LineCheck.SILENT


def test_the_clock_of_silence_stands_still_while_the_socket_is_not_writable() -> None:
    line = Line(25.0, 100.0)
    line.stop(Stop.UNWRITABLE, 110.0, 1000)
    assert check(line, 300.0, 1000) is LineCheck.FINE
    line.go_on(Stop.UNWRITABLE, 300.0)
    assert check(line, 324.9) is not LineCheck.SILENT
    assert check(line, 325.0) is LineCheck.SILENT


def test_the_clock_of_silence_stands_still_while_reading_pauses() -> None:
    line = Line(25.0, 100.0)
    line.stop(Stop.NOT_READING, 110.0)
    assert check(line, 200.0) is not LineCheck.SILENT
    line.go_on(Stop.NOT_READING, 200.0)
    assert check(line, 224.9) is not LineCheck.SILENT
    assert check(line, 225.0) is LineCheck.SILENT


def test_two_reasons_stop_the_clock_until_both_are_over() -> None:
    line = Line(25.0, 100.0)
    line.stop(Stop.NOT_READING, 110.0)
    line.stop(Stop.UNWRITABLE, 120.0, 5)
    line.go_on(Stop.NOT_READING, 130.0)
    line.go_on(Stop.UNWRITABLE, 140.0)
    assert line.heard == 130.0


def test_a_reason_that_is_not_there_cannot_end() -> None:
    line = Line(25.0, 100.0)
    line.go_on(Stop.UNWRITABLE, 500.0)
    assert line.heard == 100.0


def test_a_peer_that_takes_no_byte_for_long_is_stuck() -> None:
    line = Line(25.0, 100.0)
    line.stop(Stop.UNWRITABLE, 100.0, 1000)
    assert check(line, 999.9, 1000) is LineCheck.FINE
    assert check(line, 1000.0, 1000) is LineCheck.STUCK


def test_a_peer_that_takes_a_byte_now_and_then_is_slow_not_stuck() -> None:
    line = Line(25.0, 100.0)
    line.stop(Stop.UNWRITABLE, 100.0, 1000)
    assert check(line, 900.0, 999) is LineCheck.FINE
    assert check(line, 1799.0, 999) is LineCheck.FINE
    assert check(line, 1800.0, 999) is LineCheck.STUCK


def test_after_a_storm_first_pings_are_spread_over_half_a_heartbeat() -> None:
    lines = [Line(20.0, 100.0, phase) for phase in (0.0, 0.5, 1.0)]
    assert [line.check(100.0, GRACE, STALL, 0)[1] for line in lines] == [120.0, 115.0, 110.0]
    for line in lines:
        line.ping(110.0)
        line.heard = 110.0
    assert [line.check(110.0, GRACE, STALL, 0)[1] for line in lines] == [130.0, 130.0, 130.0]


def test_it_says_when_to_look_again() -> None:
    line = Line(25.0, 100.0)
    assert line.check(100.0, GRACE, STALL, 0)[1] == 125.0
    line.ping(125.0)
    assert line.check(125.0, GRACE, STALL, 0)[1] == 135.0
