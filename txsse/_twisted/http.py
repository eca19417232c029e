"""
Twisted's HTTP/1 channels and connections: what a client has sent ahead, and what has come of a request's
head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.web import http
from twisted.web.http import HTTPChannel, Request
from twisted.web.server import Request as ServerRequest

__all__ = [
    "channel_of",
    "forget_encoder",
    "head_of",
    "is_negotiating",
    "is_sole_request",
    "negotiating_protocol",
    "read_ahead",
    "sent_ahead",
    "set_reader",
    "waits_for_client",
]


@cache
def negotiating_protocol() -> Callable[[IProtocol], IProtocol] | None:
    """
    Return Twisted's class for a connection that becomes HTTP/1 or HTTP/2, as the client wants it; ``None``
    where a version of Twisted does not have it. It is looked up once, because the module warns of old names,
    and is slow.
    """
    return getattr(http, "_GenericHTTPChannelProtocol", None)


def is_negotiating(protocol: object) -> bool:
    """
    Return whether a protocol is Twisted's own for a connection that may become HTTP/1 or HTTP/2.
    """
    return type(protocol) is negotiating_protocol()


def channel_of(protocol: object) -> object:
    """
    Return the HTTP/1 or HTTP/2 channel of a connection; what was given where none is found.
    """
    return getattr(protocol, "_channel", protocol)


def head_of(channel: Any) -> tuple[bytes, bytes, bytes] | None:
    """
    Return method, URI and version of the request whose body is coming; ``None`` where Twisted does not
    disclose them yet.
    """
    try:
        return channel._command, channel._path, channel._version
    except AttributeError:
        return None


def waits_for_client(channel: object) -> bool:
    """
    Return whether the transport of an HTTP/1 channel holds all that it is willing to hold.
    """
    return bool(getattr(channel, "_waitingForTransport", False))


def sent_ahead(channel: object) -> list[bytes] | None:
    """
    Return what a client has sent behind the request that is being answered: a list, which Twisted parses when
    the response has ended; ``None`` where it is not as expected.
    """
    found: Any = getattr(channel, "_dataBuffer", None)
    return found if isinstance(found, list) else None


def read_ahead(channel: HTTPChannel) -> int:
    """
    Return how many bytes a client has sent behind a request that is not answered yet; 0 where that is not
    known.
    """
    if not getattr(channel, "_handlingRequest", False):
        return 0
    return sum(map(len, sent_ahead(channel) or ()))


def set_reader(channel: Any, read: Callable[[bytes], object] | None) -> None:
    """
    Have something else take what a client sends behind the request that is being answered.

    :param channel: a channel for which :func:`sent_ahead` returns a list.
    :param read: what takes it; ``None`` for the channel again.
    """
    if read is None:
        del channel.rawDataReceived
    else:
        channel.rawDataReceived = read


def is_sole_request(channel: Any, request: Request) -> bool:
    """
    Return whether a request is the one that its channel answers, and no other one waits.
    """
    return bool(getattr(channel, "requests", None) == [request])


def forget_encoder(request: Any) -> bool:
    """
    Drop what would transform a response, as ``GzipEncoderFactory`` does.

    :param request: a request that is not answered yet.
    :returns: whether the response had such an encoder.
    """
    if hasattr(request, "_encoder"):
        if request._encoder is None:
            return False
        request._encoder = None
        return True
    if not isinstance(request, ServerRequest) or not request.responseHeaders.hasHeader(b"Content-Encoding"):
        return False
    # What the class of all requests does, which knows no encoders; the sinks keep away from a write of its
    # own.
    request.write = partial(Request.write, request)  # type: ignore[method-assign]
    request.finish = partial(Request.finish, request)  # type: ignore[method-assign]
    return True
