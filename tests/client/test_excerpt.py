"""
The excerpt of a reply's body in the error of a refused stream.
"""

from __future__ import annotations

import pytest

from tests.client.fakes import Followed
from txsse.client.machine import ReadyState
from txsse.errors import StreamRefused


def body_of(content: bytes, headers: dict[str, str], *, status: int = 400) -> str:
    """
    Return the excerpt in the error, for a reply with this body.
    """
    followed = Followed()
    response = followed.request.reply(status, headers)
    response.bring(content)
    response.end()
    (error,) = followed.errors
    assert isinstance(error, StreamRefused) and error.status == status
    assert followed.clock.getDelayedCalls() == []
    return error.body


class BodyTests:
    @pytest.mark.parametrize(
        ("content_type", "content", "text"),
        [
            ("text/plain; charset=utf-8", "Grüße".encode(), "Grüße"),
            ("text/plain", "Grüße".encode(), "Grüße"),
            ("text/plain; charset=ISO-8859-1", "Grüße".encode("latin-1"), "Grüße"),
            ('application/json;charset="utf-16"', "Grüße".encode("utf-16"), "Grüße"),
            ("text/plain; charset=nonsense", "Grüße".encode(), "Grüße"),
            ("text/plain; charset=hex", b"00", "00"),
            ("text/plain; charset=idna", b"xn--\xff", "xn--\ufffd"),
            ("text/plain", b"\xff\x00\x1b[31m", "\ufffd\x00\x1b[31m"),
            ("", b"a\nb", "a\nb"),
        ],
    )
    def test_charset(self, content_type: str, content: bytes, text: str) -> None:
        """
        The client decodes the body of a refusal with its charset; an unknown or wrong charset raises no
        error.
        """
        assert body_of(content, {"Content-Type": content_type} if content_type else {}) == text

    def test_wrong_type(self) -> None:
        """
        A reply with status 200 and another media type is refused, and the error contains its body.
        """
        assert body_of(b"<title>Log in</title>", {"Content-Type": "text/html"}, status=200) == (
            "<title>Log in</title>"
        )

    def test_compressed(self) -> None:
        """
        The client does not read the compressed body of a refusal, and reports the error at once.
        """
        followed = Followed()
        response = followed.request.reply(400, {"Content-Encoding": "gzip"})
        (error,) = followed.errors
        assert isinstance(error, StreamRefused) and error.body == ""
        assert response.transport.cut

    def test_size(self) -> None:
        """
        The client reads 4 KiB of a refusal's body, drops a character that this cuts, and aborts the
        connection.
        """
        followed = Followed()
        response = followed.request.reply(500, {})
        response.bring(b"a")
        response.bring("ä".encode() * 3000)
        (error,) = followed.errors
        assert isinstance(error, StreamRefused) and error.body == "a" + "ä" * 2047
        assert response.transport.cut
        # Twisted had read these bytes before, and delivers them late.
        response.bring(b"more")
        response.end()
        assert followed.errors == [error]
        assert followed.clock.getDelayedCalls() == []

    def test_body_without_an_end(self) -> None:
        """
        If the body of a refusal has no end, the client reports the error after three seconds with the text so
        far.
        """
        followed = Followed(connect_timeout=1.0)
        response = followed.request.reply(404, {})
        response.bring(b"a")
        followed.clock.advance(2.9)
        assert followed.errors == []
        followed.clock.advance(0.2)
        (error,) = followed.errors
        assert isinstance(error, StreamRefused) and error.body == "a"
        assert response.transport.cut
        assert followed.clock.getDelayedCalls() == []

    def test_lost_connection(self) -> None:
        """
        If the connection is lost within the body of a refusal, the error contains the text received so far.
        """
        followed = Followed()
        response = followed.request.reply(404, {})
        response.bring(b"a")
        response.end(ConnectionResetError())
        (error,) = followed.errors
        assert isinstance(error, StreamRefused) and error.body == "a"

    def test_early_body(self) -> None:
        """
        The error of a refusal contains a body that arrived together with the head.
        """
        followed = Followed()
        followed.request.reply(404, {}, early=b"x" * 5000)
        (error,) = followed.errors
        assert isinstance(error, StreamRefused) and len(error.body) == 4096


class StateTests:
    def test_closed_while_reading(self) -> None:
        """
        A program may close the source while it reads the body of a refusal; no error is reported then.
        """
        followed = Followed()
        response = followed.request.reply(404, {})
        followed.source.close()
        assert response.transport.cut
        assert followed.errors == []
        assert followed.source.ready_state is ReadyState.CLOSED
        assert followed.clock.getDelayedCalls() == []

    def test_temporary(self) -> None:
        """
        The error of a temporary refusal contains the body, and the client honours Retry-After.
        """
        followed = Followed(reconnect_on=[503], retry=1.0)
        response = followed.request.reply(503, {"Retry-After": "30"})
        response.bring(b"Try later.")
        assert followed.source.reconnect_in is None
        response.end()
        (error,) = followed.errors
        assert isinstance(error, StreamRefused) and error.body == "Try later."
        assert followed.source.reconnect_in == 30.0
        followed.clock.advance(10)
        assert followed.source.reconnect_in == 20.0
        followed.next_request(20.0).reply()
        assert followed.source.reconnect_in is None
