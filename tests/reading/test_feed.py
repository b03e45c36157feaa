"""RSS and Atom to articles."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.reading.feed import read_feed
from server.reading.values import Article, Feed, Unreadable

URL = "https://news.example/feed.xml"

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>The &amp; Paper</title><link>https://news.example/</link>
<lastBuildDate>Mon, 02 Mar 2026 08:00:00 GMT</lastBuildDate>
<item><title>Older</title><guid isPermaLink="false">tag-1</guid><link>https://news.example/1</link>
<pubDate>Sun, 01 Mar 2026 10:00:00 +0100</pubDate>
<description>&lt;p&gt;A &lt;b&gt;bold&lt;/b&gt; claim &amp;amp; more.&lt;/p&gt;</description></item>
<item><title>Newer</title><guid>https://news.example/2</guid><author>ada@example.com (Ada)</author>
<pubDate>Mon, 02 Mar 2026 07:00:00 GMT</pubDate></item>
</channel></rss>"""

ATOM = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>Atoms</title><updated>2026-03-02T08:00:00Z</updated>
<entry><title type="html">One &lt;i&gt;entry&lt;/i&gt;</title><id>urn:uuid:1</id>
<link href="/posts/1"/><updated>2026-03-02T07:30:00Z</updated><author><name>Bob</name></author>
<summary>Short.</summary></entry></feed>"""


def read(text: str | bytes, content_type: str = "application/xml", most: int = 50) -> Feed:
    body = text.encode() if isinstance(text, str) else text
    return read_feed(body, content_type, URL, most)


def rss(*items: str) -> str:
    return f'<rss version="2.0"><channel><title>T</title>{"".join(items)}</channel></rss>'


def test_rss_is_read_with_the_newest_article_first() -> None:
    feed = read(RSS)
    assert (feed.title, feed.updated) == ("The & Paper", datetime(2026, 3, 2, 8, tzinfo=UTC))
    assert feed.articles == (
        Article(
            guid="https://news.example/2",
            link="https://news.example/2",
            title="Newer",
            summary=None,
            author="Ada",
            published=datetime(2026, 3, 2, 7, tzinfo=UTC),
        ),
        Article(
            guid="tag-1",
            link="https://news.example/1",
            title="Older",
            summary="A bold claim & more.",
            author=None,
            published=datetime(2026, 3, 1, 9, tzinfo=UTC),
        ),
    )


def test_atom_is_read_and_its_links_are_whole() -> None:
    (article,) = read(ATOM).articles
    assert (article.title, article.link, article.author, article.summary) == (
        "One entry",
        "https://news.example/posts/1",
        "Bob",
        "Short.",
    )
    assert article.published == datetime(2026, 3, 2, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "<html><body>Not found</body></html>", "{}", "plain", "<xml", "\0\0\0"])
def test_what_is_no_feed_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        read(text)


def test_a_feed_without_articles_is_a_feed() -> None:
    assert read(rss()).articles == ()


def test_a_feed_that_breaks_off_gives_what_was_whole() -> None:
    cut = RSS[: RSS.index("<item><title>Newer")] + "<item><title>Ne"
    assert [article.title for article in read(cut).articles] == ["Older"]


def test_the_number_of_articles_has_a_bound() -> None:
    dates = [f"<pubDate>Mon, 02 Mar 2026 07:00:{n:02} GMT</pubDate>" for n in range(60)]
    items = [
        f'<item><guid isPermaLink="false">{n}</guid><title>t</title>{date}</item>'
        for n, date in enumerate(dates)
    ]
    articles = read(rss(*items), most=3).articles
    assert [article.guid for article in articles] == ["59", "58", "57"]


def test_articles_without_dates_stay_in_their_order() -> None:
    feed = read(rss("<item><title>a</title></item>", "<item><title>b</title></item>"))
    assert [(article.title, article.published) for article in feed.articles] == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "x" * 5000]
)
def test_links_that_a_browser_should_not_follow_are_dropped(link: str) -> None:
    (article,) = read(rss(f"<item><title>a</title><link>{link}</link></item>")).articles
    assert article.link is None or article.link.startswith("https://news.example/")


def test_no_markup_is_left_in_texts() -> None:
    evil = (
        "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"
        "Hello&amp;nbsp;&lt;style&gt;p{}&lt;/style&gt;world&amp;lt;b&amp;gt;!"
    )
    (article,) = read(rss(f"<item><title>{evil}</title><description>{evil}</description></item>")).articles
    for text in (article.title, article.summary):
        assert text is not None
        assert "<" not in text
        assert "alert" not in text
        assert text.startswith("Hello")


def test_long_texts_are_cut_at_a_word() -> None:
    long = "word " * 5000
    (article,) = read(rss(f"<item><title>{long}</title><description>{long}</description></item>")).articles
    assert article.title is not None
    assert article.summary is not None
    assert len(article.title) <= 300
    assert article.summary.endswith("word…")
    assert len(article.summary) <= 600


def test_an_encoding_may_be_named_by_the_server_or_the_text() -> None:
    text = '<?xml version="1.0" encoding="ISO-8859-1"?>' + rss("<item><title>café</title></item>")
    assert read(text.encode("latin-1")).articles[0].title == "café"
    bare = rss("<item><title>café</title></item>").encode("latin-1")
    assert read(bare, "application/rss+xml; charset=iso-8859-1").articles[0].title == "café"


def test_a_body_is_never_taken_for_the_name_of_a_file_or_an_address(tmp_path: Path) -> None:
    path = tmp_path / "feed.xml"
    path.write_text(RSS)
    for text in (str(path), os.path.relpath(path), path.as_uri(), "http://127.0.0.1:9/"):
        with pytest.raises(Unreadable):
            read(text)


def test_entities_reach_no_file_and_do_not_grow() -> None:
    outside = '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + rss(
        "<item><title>a&e;</title></item>"
    )
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE r [<!ENTITY l0 "ha">{laughs}]>' + rss("<item><title>&l11;</title></item>")
    for text in (outside, bomb):
        try:
            feed = read(text)
        except Unreadable:
            continue
        assert all("root:" not in (article.title or "") for article in feed.articles)
        assert all(len(article.title or "") <= 300 for article in feed.articles)


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: rss(f"<item>{text}</item>").encode()))
def test_any_bytes_are_a_feed_or_unreadable(body: bytes) -> None:
    try:
        feed = read(body)
    except Unreadable:
        return
    assert all(len(article.title or "") <= 300 for article in feed.articles)
