"""
Checks of request heads that two HTTP servers in a row may parse differently.

Such a difference lets a part of a request pass as another request (request smuggling), or one host as
another.

Strategy: :class:`StrictChannel` refuses what is visible only while the head is parsed;
:func:`refuse_framing`, a pure function on a request, returns why a request is refused, in one sentence, or
``None``.

Sources: https://www.rfc-editor.org/rfc/rfc9112#section-3.2 (``Host``),
https://www.rfc-editor.org/rfc/rfc9112#section-6.1 (``Transfer-Encoding``)
"""

from __future__ import annotations

from twisted.web.http import HTTPChannel, Request

from txsse._twisted.http import read_ahead
from txsse._twisted.types import StreamTransport

__all__ = ["StrictChannel", "refuse_framing"]

# How many bytes are read after a request that is not answered yet, before the connection is paused. The same
# as Twisted's own limit for bytes in the same packet.
_MAX_READ_AHEAD = 2**14


class StrictChannel(HTTPChannel):
    """
    HTTP/1 without three weaknesses of Twisted's.

    It refuses a folded line in a head with 400: Twisted unfolds it, and a proxy before it may have parsed it
    differently (https://www.rfc-editor.org/rfc/rfc9112#section-5.2). It pauses a connection with much unread
    data after a request that is not answered yet: Twisted would read on, and keep all of it, although the
    client reads no responses. It answers a line of more than 16 KiB, such as a long URL or token, where
    Twisted closes the connection: with 414 for a request line
    (https://www.rfc-editor.org/rfc/rfc9112#section-3), and with 431 for a header field
    (https://www.rfc-editor.org/rfc/rfc6585#section-5).
    """

    transport: StreamTransport

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        """
        Receive a part of a body, or data after a request.
        """
        super().rawDataReceived(data)
        if read_ahead(self) > _MAX_READ_AHEAD:
            transport = self.transport
            transport.pauseProducing()

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        """
        Receive a line of a head.
        """
        if line[:1] in (b" ", b"\t"):
            self._refuse(b"400 Bad Request")
        else:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802
        """
        Refuse a head with a line that is too long.
        """
        # Twisted creates the request when it has read the request line.
        self._refuse(b"431 Request Header Fields Too Large" if self.requests else b"414 URI Too Long")

    def _refuse(self, status: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.loseConnection()  # type: ignore[no-untyped-call]


def refuse_framing(request: Request) -> str | None:
    """
    Check a request's ``Host`` and ``Transfer-Encoding``, which Twisted accepts with any value.

    A missing or repeated ``Host`` is refused, and any ``Transfer-Encoding`` except ``chunked``.

    :param request: the request, with its head.
    :returns: why the request is refused, or ``None``.
    """
    hosts = request.requestHeaders.getRawHeaders(b"Host") or []
    if request.clientproto == b"HTTP/2":
        # Twisted adds a Host made from ``:authority`` to the one that the client may have sent.
        hosts = list(dict.fromkeys(hosts))
    if len(hosts) > 1 or (not hosts and request.clientproto != b"HTTP/1.0"):
        return "A request must have one Host header."
    codings = request.requestHeaders.getRawHeaders(b"Transfer-Encoding") or []
    if codings and [each.lower() for each in codings] != [b"chunked"]:
        return "The only supported Transfer-Encoding is chunked, given once."
    return None
