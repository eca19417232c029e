"""
Request heads that two HTTP servers in a row may read differently, so that one takes a part of a request for
another request (request smuggling), or one host for another.

Strategy: :class:`StrictChannel` refuses what can be seen only while the head is read; :func:`refuse_framing`,
a pure function on a request, returns why a request is refused, in one sentence, or ``None``.

Sources: https://www.rfc-editor.org/rfc/rfc9112#section-3.2 (``Host``),
https://www.rfc-editor.org/rfc/rfc9112#section-6.1 (``Transfer-Encoding``)
"""

from __future__ import annotations

from twisted.web.http import HTTPChannel, Request

from txsse._twisted.http import read_ahead
from txsse._twisted.tcp import StreamTransport

__all__ = ["StrictChannel", "refuse_framing"]

# How many bytes may come behind a request that is not answered yet, before its connection is read no further.
# The same as Twisted's own bound for those that come as a part of its packet.
_MAX_READ_AHEAD = 2**14


class StrictChannel(HTTPChannel):
    """
    HTTP/1 without three weaknesses of Twisted's.

    It refuses a folded line in a head with 400: Twisted unfolds it, and a proxy in front may have read it
    otherwise (https://www.rfc-editor.org/rfc/rfc9112#section-5.2). And it reads no further when much has come
    behind a request that is not answered yet: where its client reads no answers, Twisted reads on, and keeps
    all of it. And it answers a line of more than 16 KiB, such as a long URL or token, where Twisted closes
    the connection: with 414 for a request line (https://www.rfc-editor.org/rfc/rfc9112#section-3), and 431
    for a header field (https://www.rfc-editor.org/rfc/rfc6585#section-5).
    """

    transport: StreamTransport

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        """
        Take in a part of a body, or what comes behind a request.
        """
        super().rawDataReceived(data)
        if read_ahead(self) > _MAX_READ_AHEAD:
            transport = self.transport
            transport.pauseProducing()

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        """
        Take in a line of a head.
        """
        if line[:1] in (b" ", b"\t"):
            self._refuse(b"400 Bad Request")
        else:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802
        """
        Refuse a head with a line that is too long.
        """
        # Twisted makes a request when it has read the request line.
        self._refuse(b"431 Request Header Fields Too Large" if self.requests else b"414 URI Too Long")

    def _refuse(self, status: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.loseConnection()  # type: ignore[no-untyped-call]


def refuse_framing(request: Request) -> str | None:
    """
    Check what Twisted lets through: a missing or repeated ``Host``, and a ``Transfer-Encoding`` that is more
    than ``chunked``.

    :param request: the request, with its head.
    :returns: why it is refused, or ``None``.
    """
    hosts = request.requestHeaders.getRawHeaders(b"Host") or []
    if request.clientproto == b"HTTP/2":
        # Twisted makes a Host of ``:authority``, beside the one that the client may have sent, too.
        hosts = list(dict.fromkeys(hosts))
    if len(hosts) > 1 or (not hosts and request.clientproto != b"HTTP/1.0"):
        return "A request must have one Host header."
    codings = request.requestHeaders.getRawHeaders(b"Transfer-Encoding") or []
    if codings and [each.lower() for each in codings] != [b"chunked"]:
        return "The only Transfer-Encoding that is understood here is chunked, given once."
    return None
