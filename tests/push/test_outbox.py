"""What waits to be written is bounded: all replies, and of everything else the newest."""

from __future__ import annotations

from server.push.outbox import Outbox


def taken(outbox: Outbox, room: int = 1_000_000) -> list[bytes]:
    parts: list[bytes] = []
    outbox.take_notices(parts)
    outbox.take_replies(parts, room)
    outbox.take_changed(parts)
    return parts


def test_replies_go_out_in_order_and_whole() -> None:
    outbox = Outbox()
    for frame in (b"1", b"2", b"3"):
        outbox.reply(frame)
    assert taken(outbox) == [b"1", b"2", b"3"]
    assert outbox.is_empty


def test_a_reply_may_be_made_when_it_is_written() -> None:
    outbox, state = Outbox(), ["old"]
    outbox.reply(lambda: state[0].encode())
    state[0] = "new"
    assert taken(outbox) == [b"new"]


def test_replies_past_the_room_stay_for_the_next_write() -> None:
    outbox = Outbox()
    for frame in (b"x" * 10, b"y" * 10, b"z" * 10):
        outbox.reply(frame)
    assert taken(outbox, 15) == [b"x" * 10, b"y" * 10]
    assert outbox.has_replies
    assert taken(outbox, 15) == [b"z" * 10]


def test_there_is_room_for_so_many_replies_and_so_many_bytes() -> None:
    outbox = Outbox()
    assert outbox.has_room(2)
    outbox.reply(b"1")
    outbox.reply(b"2")
    assert not outbox.has_room(2)
    assert outbox.has_room(3)
    outbox.reply(b"x" * 300_000)
    assert not outbox.has_room(100)
    taken(outbox)
    assert outbox.has_room(2)


def test_of_each_source_and_each_kind_of_notice_the_newest_is_kept() -> None:
    outbox = Outbox()
    outbox.changed("a", b"a1")
    outbox.changed("b", b"b1")
    outbox.changed("a", b"a2")
    outbox.notice("expiring", b"e1")
    outbox.notice("expiring", b"e2")
    outbox.pong(b"p1")
    outbox.pong(b"p2")
    assert taken(outbox) == [b"p2", b"e2", b"b1", b"a2"]
    assert outbox.is_empty


def test_notices_do_not_grow_without_end() -> None:
    outbox = Outbox()
    for number in range(1000):
        outbox.notice(f"feed.closed {number}", b"x")
    assert len(taken(outbox)) == 128
