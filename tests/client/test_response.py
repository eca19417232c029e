"""
The client's decision about a reply: it opens a stream, redirects or refuses; and the parsing of URLs.
"""

from __future__ import annotations

import pytest
from hyperlink import URL

from txsse.client.response import Opens, Redirects, Refuses, StreamRequest, judge, origin_of, parse_url

ASKED = StreamRequest(URL.from_text("https://example.org/a/events?x=1"), "GET", (), None)


def judged(
    status: int,
    headers: dict[str, str] | None = None,
    request: StreamRequest = ASKED,
    temporary: tuple[int, ...] = (),
) -> Opens | Redirects | Refuses:
    fields = {name: [value] for name, value in (headers or {}).items()}
    return judge(request, status, lambda name: fields.get(name, []), temporary=temporary, now=1_000_000_000.0)


class OpenTests:
    @pytest.mark.parametrize(
        "kind",
        [
            "text/event-stream",
            "text/event-stream; charset=utf-8",
            "Text/Event-Stream ;charset=latin-1",
            "text/event-stream;",
        ],
    )
    def test_event_stream(self, kind: str) -> None:
        """
        A reply of type text/event-stream opens the stream, whatever its parameters are.
        """
        assert isinstance(judged(200, {"Content-Type": kind}), Opens)

    @pytest.mark.parametrize(
        "kind", [None, "", "text/html", "text/event-streams", "text/plain; text/event-stream"]
    )
    def test_another_type(self, kind: str | None) -> None:
        """
        A reply of another type, or without one, ends the source.
        """
        decision = judged(200, {} if kind is None else {"Content-Type": kind})
        assert isinstance(decision, Refuses) and decision.final
        assert "not text/event-stream" in str(decision.error)
        assert (decision.error.status, decision.error.url) == (200, "https://example.org/a/events?x=1")

    def test_compressed(self) -> None:
        """
        A compressed stream, which the client did not request, ends the source; the coding identity does not.
        """
        headers = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
        decision = judged(200, headers)
        assert isinstance(decision, Refuses) and decision.final
        assert "as gzip" in str(decision.error)
        assert isinstance(judged(200, {**headers, "Content-Encoding": "Identity"}), Opens)

    def test_unknown_coding(self) -> None:
        """
        A stream with an unknown coding is read as it is, as in Chromium; after a malformed coding the client
        tries again.
        """
        headers = {"Content-Type": "text/event-stream", "Content-Encoding": "utf-8"}
        assert isinstance(judged(200, headers), Opens)
        decision = judged(200, {**headers, "Content-Encoding": "gzip;q=1"})
        assert isinstance(decision, Refuses) and not decision.final
        assert "gzip;q=1, which is not a list of content codings" in str(decision.error)

    def test_all_fields(self) -> None:
        """
        The client reads the media type and the codings from all fields of their names.
        """
        fields = {
            "Content-Type": ["text/html", "text/event-stream", ""],
            "Content-Encoding": ["gzip", "identity"],
        }
        decision = judge(ASKED, 200, lambda name: fields.get(name, []), temporary=(), now=0.0)
        assert isinstance(decision, Opens)
        fields["Content-Type"].append("text/html")
        decision = judge(ASKED, 200, lambda name: fields.get(name, []), temporary=(), now=0.0)
        assert isinstance(decision, Refuses)
        assert "sends text/html, text/event-stream, text/html, and not" in str(decision.error)


class RefusalTests:
    @pytest.mark.parametrize("status", [204, 201, 206, 300, 304, 400, 401, 404, 410, 429, 500, 503])
    def test_final(self, status: int) -> None:
        """
        Any status but 200 ends the source, unless the program lists it in reconnect_on.
        """
        decision = judged(status, {"Content-Type": "text/event-stream", "Retry-After": "1"})
        assert isinstance(decision, Refuses)
        assert (decision.final, decision.error.status) == (True, status)

    @pytest.mark.parametrize(
        ("retry_after", "seconds"),
        [
            (None, None),
            ("7", 7.0),
            (" 0 ", 0.0),
            ("999999999", 999_999_999.0),
            ("9" * 1000, None),
            ("-1", None),
            ("1.5", None),
            ("٣", None),
            ("soon", None),
            ("Sun, 09 Sep 2001 01:47:40 GMT", 60.0),
            ("Sun, 09 Sep 2001 01:40:00 GMT", 0.0),
            ("Sun, 99 Sep 2001 01:40:00 GMT", None),
        ],
    )
    def test_temporary(self, retry_after: str | None, seconds: float | None) -> None:
        """
        After a status listed in reconnect_on, the client waits for the time in a valid Retry-After.
        """
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        decision = judged(503, headers, temporary=(503,))
        assert isinstance(decision, Refuses)
        assert (decision.final, decision.retry_after) == (False, seconds)


class RedirectTests:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize(
        ("location", "url"),
        [
            ("/b", "https://example.org/b"),
            ("b?y", "https://example.org/a/b?y"),
            ("//other.example/", "https://other.example/"),
            ("HTTPS://Other.example/B", "https://other.example/B"),
            ("http://example.org:81/ä b#here", "http://example.org:81/%C3%A4%20b"),
        ],
    )
    def test_followed(self, status: int, location: str, url: str) -> None:
        """
        The client follows each redirect status to any HTTP URL, absolute or relative.
        """
        decision = judged(status, {"Location": location})
        assert isinstance(decision, Redirects)
        assert decision.request.url.to_text() == url
        assert decision.request.method == "GET"

    @pytest.mark.parametrize(
        "location",
        [
            "ftp://example.org/",
            "FTP://example.org/",
            "javascript:alert(1)",
            "http://",
            "http://[::1",
            "http://a:65536/",
        ],
    )
    def test_location_not_http(self, location: str) -> None:
        """
        A redirect to a location that is not an HTTP URL ends the source.
        """
        decision = judged(302, {"Location": location})
        assert isinstance(decision, Refuses) and decision.final
        assert "cannot be followed" in str(decision.error)

    def test_no_location(self) -> None:
        """
        A redirect status without a Location is refused like any other status.
        """
        assert isinstance(judged(302), Refuses)

    @pytest.mark.parametrize(
        ("method", "status", "kept"),
        [
            ("POST", 301, False),
            ("POST", 302, False),
            ("POST", 303, False),
            ("POST", 307, True),
            ("POST", 308, True),
            ("QUERY", 301, True),
            ("QUERY", 302, True),
            ("QUERY", 303, False),
        ],
    )
    def test_methods_and_bodies(self, method: str, status: int, kept: bool) -> None:
        """
        A redirect that changes the method to GET drops the body, and the header fields that describe it.
        """
        headers = (("Content-Type", "text/plain"), ("X-Own", "1"))
        request = StreamRequest(ASKED.url, method, headers, b"body")
        decision = judged(status, {"Location": "/b"}, request)
        assert isinstance(decision, Redirects)
        follows = decision.request
        if kept:
            assert (follows.method, follows.headers, follows.body) == (method, headers, b"body")
        else:
            assert (follows.method, follows.headers, follows.body) == ("GET", (("X-Own", "1"),), None)

    @pytest.mark.parametrize(
        ("location", "kept"),
        [
            ("https://example.org/b", True),
            ("https://EXAMPLE.org:443/b", True),
            ("https://example.org:444/b", False),
            ("http://example.org/b", False),
            ("https://other.example/b", False),
        ],
    )
    def test_header_fields_after_a_redirect(self, location: str, kept: bool) -> None:
        """
        A redirect to another origin drops all header fields of the program, whatever their names.
        """
        headers = (
            ("authorization", "Bearer x"),
            ("Cookie", "a=b"),
            ("X-Api-Key", "y"),
            ("Content-Type", "z"),
        )
        for status in (301, 302, 303, 307, 308):
            decision = judged(status, {"Location": location}, StreamRequest(ASKED.url, "GET", headers, None))
            assert isinstance(decision, Redirects)
            assert decision.request.headers == (headers if kept else ())

    @pytest.mark.parametrize(
        ("status", "method", "body", "headers"),
        [
            (307, "POST", b"body", (("Content-Type", "text/plain"),)),
            (308, "POST", b"body", (("Content-Type", "text/plain"),)),
            (302, "POST", None, ()),
        ],
    )
    def test_body_to_another_origin(
        self, status: int, method: str, body: bytes | None, headers: object
    ) -> None:
        """
        A redirected body goes to another origin with the header fields that describe it, and with no other
        ones.
        """
        own = (("X-Api-Key", "y"), ("Content-Type", "text/plain"))
        decision = judged(
            status, {"Location": "https://other.example/"}, StreamRequest(ASKED.url, method, own, b"body")
        )
        assert isinstance(decision, Redirects)
        assert (decision.request.body, decision.request.headers) == (body, headers)

    def test_redirect_back_to_the_first_origin(self) -> None:
        """
        A redirect back to the first origin does not restore header fields: the other origin chose its URL.
        """
        request = StreamRequest(ASKED.url, "GET", (("X-Api-Key", "y"),), None)
        for location in ("https://other.example/", "https://example.org/elsewhere"):
            decision = judged(302, {"Location": location}, request)
            assert isinstance(decision, Redirects)
            request = decision.request
        assert (request.url.to_text(), request.headers) == ("https://example.org/elsewhere", ())

    @pytest.mark.parametrize(
        ("location", "kept"),
        [
            ("https://OTHER.example:443/", True),
            ("http://other.example/", False),
            ("https://third.example/", False),
        ],
    )
    def test_trusted_origins(self, location: str, kept: bool) -> None:
        """
        A redirect to an origin listed in trusted_origins keeps the header fields of the program.
        """
        headers = (("X-Api-Key", "y"),)
        trusted = frozenset([origin_of(URL.from_text("https://other.example"))])
        decision = judged(
            307, {"Location": location}, StreamRequest(ASKED.url, "GET", headers, None, trusted)
        )
        assert isinstance(decision, Redirects)
        assert decision.request.headers == (headers if kept else ())


class UrlTests:
    @pytest.mark.parametrize("text", ["", "/events", "example.org/events", "ftp://example.org/", "http:///x"])
    def test_not_http(self, text: str) -> None:
        """
        A text that is not an HTTP URL is rejected, and the error says how such a URL begins.
        """
        with pytest.raises(ValueError, match="begins with http://"):
            parse_url(text)

    def test_invalid_host(self) -> None:
        """
        A URL with an invalid host is rejected.
        """
        with pytest.raises(ValueError, match="its host is invalid"):
            parse_url("http://exa mple.org/")

    def test_fragment(self) -> None:
        """
        The fragment of a URL is removed.
        """
        assert parse_url("http://example.org/a#b").to_text() == "http://example.org/a"


class ParseTests:
    @pytest.mark.parametrize(
        ("text", "base", "expected"),
        [
            ("http://[::1]:8080/a", None, "http://[::1]:8080/a"),
            ("http://exämple.org/ä?ö#x", None, "http://xn--exmple-cua.org/%C3%A4?%C3%B6"),
            ("//other/x", "http://a:8080/", "http://other/x"),
            ("//[::1]:81/x", "http://a:8080/", "http://[::1]:81/x"),
            ("/x", "http://[::1]:8080/a", "http://[::1]:8080/x"),
            ("HTTP://EXAMPLE.org/A", None, "http://example.org/A"),
            ("Https://example.org:443/", None, "https://example.org/"),
            ("hTTp://[::1]:80/x", None, "http://[::1]/x"),
            ("HTTPS://example.org/x", "http://a:8080/", "https://example.org/x"),
            ("HTTP://b", "http://a:8080/", "http://b"),
            ("http://my_service:8080/x", None, "http://my_service:8080/x"),
        ],
    )
    def test_normalisation(self, text: str, base: str | None, expected: str) -> None:
        """
        IPv6 addresses, names with an underscore, and schemes in capital letters are accepted in URLs.
        """
        above = None if base is None else parse_url(base)
        assert parse_url(text, base=above).to_text() == expected

    def test_credentials(self) -> None:
        """
        A URL with credentials is rejected, since URLs appear in logs and messages.
        """
        with pytest.raises(ValueError, match="contains credentials; send them in the Authorization header"):
            parse_url("http://user:secret@example.org/")
