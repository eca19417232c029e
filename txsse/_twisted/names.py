"""
The table of Twisted's private names that txsse uses, with their purposes and fallbacks.

A test removes each of them in turn, and shows that txsse still works.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NAMES", "PrivateName"]


class PrivateName(NamedTuple):
    """
    A private or undocumented name of Twisted.

    :ivar module: the module that defines it.
    :ivar owner: the class that has it; empty for a name of the module.
    :ivar name: the name.
    :ivar purpose: what txsse uses it for.
    :ivar without: what is lost if it is missing.
    """

    module: str
    owner: str
    name: str
    purpose: str
    without: str


_KEEPS_REQUEST = "streams keep their request, at three times the memory"
_NO_DIRECT = "each event goes through Request and HTTPChannel"
_TWISTED_QUEUES = "Twisted queues what is written to a stream of HTTP/2"
_DEFAULT_HEAD = "Twisted's own limits for the head of a response apply"

NAMES = (
    PrivateName(
        "twisted.internet.abstract",
        "FileDescriptor",
        "_tempDataBuffer",
        "writing to the socket at once, where nothing waits to be sent",
        _NO_DIRECT,
    ),
    PrivateName(
        "twisted.internet.abstract",
        "FileDescriptor",
        "dataBuffer",
        "writing to the socket at once, where nothing waits to be sent",
        _NO_DIRECT,
    ),
    PrivateName(
        "twisted.web.http",
        "",
        "_GenericHTTPChannelProtocol",
        "HTTP/2 for BoundedSite, and finding the channel of a connection",
        f"BoundedSite speaks HTTP/1 alone; {_KEEPS_REQUEST}",
    ),
    PrivateName(
        "twisted.web.http",
        "_GenericHTTPChannelProtocol",
        "_channel",
        "finding the channel of a connection",
        f"{_KEEPS_REQUEST}; an idle connection to BoundedSite closes after Site.timeOut",
    ),
    PrivateName(
        "twisted.web.http",
        "HTTPChannel",
        "_dataBuffer",
        "bounding the bytes that a client sends after a request",
        f"Twisted's own bounds apply; {_KEEPS_REQUEST}",
    ),
    PrivateName(
        "twisted.web.http",
        "HTTPChannel",
        "_handlingRequest",
        "bounding the bytes that a client sends after a request that is not answered yet",
        "Twisted's own bounds apply",
    ),
    PrivateName(
        "twisted.web.http",
        "HTTPChannel",
        "_waitingForTransport",
        "answering pipelined requests only as far as the client reads",
        "Twisted answers four of them in each turn of the reactor, whether the client reads or not",
    ),
    *(
        PrivateName(
            "twisted.web.http",
            "HTTPChannel",
            name,
            "refusing a request before its body has come",
            "it is refused after its body has come",
        )
        for name in ("_command", "_path", "_version")
    ),
    PrivateName(
        "twisted.web.server",
        "Request",
        "_encoder",
        "sending events without the delay of GzipEncoderFactory",
        "such streams are written through Request, at more cost",
    ),
    *(
        PrivateName("twisted.web._http2", "H2Stream", name, "flow control of HTTP/2", _TWISTED_QUEUES)
        for name in ("_conn", "streamID", "flowControlBlocked")
    ),
    *(
        PrivateName("twisted.web._http2", "H2Connection", name, "flow control of HTTP/2", _TWISTED_QUEUES)
        for name in ("conn", "_consumerBlocked", "_outboundStreamQueues", "_reactor")
    ),
    *(
        PrivateName(
            "twisted.web._http2",
            "H2Stream",
            name,
            "refusing a request before its body has come",
            "it is refused after its body has come",
        )
        for name in ("command", "path")
    ),
    PrivateName(
        "twisted.web.client",
        "HTTPConnectionPool",
        "_factory",
        "changing the client's connections",
        f"chunks are decoded one by one; {_DEFAULT_HEAD}",
    ),
    PrivateName(
        "twisted.web._newclient",
        "HTTP11ClientProtocol",
        "_parser",
        "changing how a response is parsed",
        f"chunks are decoded one by one; {_DEFAULT_HEAD}",
    ),
    PrivateName(
        "twisted.web._newclient",
        "HTTP11ClientProtocol",
        "_giveUp",
        "refusing a response, and closing a TLS connection without the peer's close_notify",
        "the error of a refused response names a lost connection",
    ),
    PrivateName(
        "twisted.web._newclient",
        "HTTPClientParser",
        "_transferDecoders",
        "decoding all chunks of a read at once",
        "chunks are decoded one by one",
    ),
    PrivateName(
        "twisted.web._newclient",
        "HTTPParser",
        "connHeaders",
        "reading Transfer-Encoding as browsers do",
        "a reply with an odd Transfer-Encoding is refused",
    ),
    PrivateName(
        "twisted.web._newclient",
        "HTTPParser",
        "allHeadersReceived",
        "reading Transfer-Encoding as browsers do",
        "a reply with an odd Transfer-Encoding is refused",
    ),
    PrivateName(
        "twisted.web._newclient",
        "TransportProxyProducer",
        "_producer",
        "aborting a connection whose body is not wanted",
        "it is closed, which over TLS waits for the peer",
    ),
    PrivateName(
        "twisted.web._newclient",
        "",
        "ParseError",
        "explaining a response that is not HTTP",
        "the error message has fewer details",
    ),
    PrivateName(
        "twisted.web.http",
        "",
        "_MalformedChunkedDataError",
        "explaining a malformed chunk",
        "the error message has fewer details",
    ),
    *(
        PrivateName(
            "twisted.web.http",
            "_ChunkedTransferDecoder",
            name,
            "decoding all chunks of a read at once",
            "chunks are decoded one by one",
        )
        for name in ("_buffer", "_start", "state", "length")
    ),
    PrivateName(
        "twisted.internet.defer",
        "",
        "DebugInfo",
        "logging expected failures that the program dropped in one line",
        "each has a traceback",
    ),
    PrivateName(
        "twisted.internet.defer",
        "Deferred",
        "_debugInfo",
        "logging expected failures that the program dropped in one line",
        "each has a traceback",
    ),
    PrivateName(
        "twisted.internet.defer",
        "DebugInfo",
        "failResult",
        "logging expected failures that the program dropped in one line",
        "each has a traceback",
    ),
)
