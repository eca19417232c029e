"""
Request heads that two HTTP servers in a row may read differently, so that one takes a part of a request for
another request (request smuggling), or one host for another.

Strategy: :class:`StrictChannel` refuses what can be seen only while the head is read; :func:`refuse_framing`,
a pure function on a request, returns why a request is refused, in one sentence, or ``None``.

Sources: https://www.rfc-editor.org/rfc/rfc9112#section-3.2 (``Host``),
https://www.rfc-editor.org/rfc/rfc9112#section-6.1 (``Transfer-Encoding``)
"""

from __future__ import annotations

from typing import Any

from twisted.web import http
from twisted.web.http import HTTPChannel, Request

__all__ = ["StrictChannel", "negotiating_protocol", "refuse_framing"]


def negotiating_protocol() -> Any:
    """
    Return Twisted's class for a connection that becomes HTTP/1 or HTTP/2, as the client wants it; ``None``
    where a version of Twisted does not have it. It is no public name.
    """
    return getattr(http, "_GenericHTTPChannelProtocol", None)


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

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        """
        Take in a part of a body, or what comes behind a request.
        """
        super().rawDataReceived(data)
        if self._handlingRequest and sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            self._networkProducer.pauseProducing()

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        """
        Take in a line of a head.
        """
        if line[:1] in (b" ", b"\t"):
            self._respondToBadRequestAndDisconnect()  # type: ignore[no-untyped-call]
        else:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802
        """
        Refuse a head with a line that is too long.
        """
        # Nothing of a head has been read before a request line, but for an empty line.
        status = b"431 Request Header Fields Too Large" if self._receivedHeaderSize else b"414 URI Too Long"
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
