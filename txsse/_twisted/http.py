"""
Access to Twisted's HTTP/1 channels: pipelined bytes, the head of a request, its response encoder.
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
    "UntypedRequest",
    "channel_of",
    "forget_encoder",
    "head_of",
    "is_negotiating",
    "is_sole_request",
    "negotiating_protocol",
    "producers_of",
    "read_ahead",
    "sent_ahead",
    "set_reader",
    "set_request_factory",
    "waits_for_client",
]


# Twisted's class, for a subclass: most of its methods have no types.
UntypedRequest: Any = ServerRequest


@cache
def negotiating_protocol() -> Callable[[IProtocol], IProtocol] | None:
    """
    Return Twisted's class for a connection that negotiates HTTP/1 or HTTP/2; ``None`` if Twisted lacks it.

    It is looked up once: Twisted wraps this module to warn of deprecated names, which makes lookups slow.
    """
    return getattr(http, "_GenericHTTPChannelProtocol", None)


def is_negotiating(protocol: object) -> bool:
    """
    Return whether a protocol is Twisted's own for a connection that negotiates HTTP/1 or HTTP/2.
    """
    return type(protocol) is negotiating_protocol()


def channel_of(protocol: object) -> object:
    """
    Return the HTTP/1 or HTTP/2 channel of a connection; ``protocol`` itself if no channel is found.
    """
    return getattr(protocol, "_channel", protocol)


def head_of(channel: Any) -> tuple[bytes, bytes, bytes] | None:
    """
    Return method, URI and version of the request whose body is being received.

    :returns: ``None`` if Twisted has not parsed them yet, or does not have these attributes.
    """
    try:
        return channel._command, channel._path, channel._version
    except AttributeError:
        return None


def waits_for_client(channel: object) -> bool:
    """
    Return whether the send buffer of an HTTP/1 channel is full, because the client does not read.
    """
    return bool(getattr(channel, "_waitingForTransport", False))


def sent_ahead(channel: object) -> list[bytes] | None:
    """
    Return the bytes that a client has sent after the request that is being answered.

    :returns: Twisted's own list, which it parses when the response has ended; ``None`` if it is not as
        expected.
    """
    found: Any = getattr(channel, "_dataBuffer", None)
    return found if isinstance(found, list) else None


def read_ahead(channel: HTTPChannel) -> int:
    """
    Return how many bytes a client has sent after a request that is not answered yet; 0 if unknown.
    """
    if not getattr(channel, "_handlingRequest", False):
        return 0
    return sum(map(len, sent_ahead(channel) or ()))


def set_reader(channel: Any, read: Callable[[bytes], object] | None) -> None:
    """
    Redirect the bytes that a client sends after the request that is being answered.

    :param channel: a channel for which :func:`sent_ahead` returns a list.
    :param read: receives the bytes; ``None`` to give them to the channel again.
    """
    if read is None:
        del channel.rawDataReceived
    else:
        channel.rawDataReceived = read


def set_request_factory(protocol: Any, make: Callable[..., Request]) -> None:
    """
    Set the function that makes the requests of a connection.

    :param protocol: an HTTP/1 channel, or Twisted's protocol that negotiates HTTP/1 or HTTP/2.
    """
    protocol.requestFactory = make


def is_sole_request(channel: Any, request: Request) -> bool:
    """
    Return whether a request is the only one of its channel: it is being answered, and no other one waits.
    """
    return bool(getattr(channel, "requests", None) == [request])


def forget_encoder(request: Any) -> bool:
    """
    Remove the encoder of a response, such as that of ``GzipEncoderFactory``.

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
    # The methods of the base class do not use encoders. The sinks do not bypass a request that has a write of
    # its own, set on the instance.
    request.write = partial(Request.write, request)  # type: ignore[method-assign]
    request.finish = partial(Request.finish, request)  # type: ignore[method-assign]
    return True


def producers_of(channel: object) -> list[object]:
    """
    Return the producers of the responses that are being sent on a connection.

    :param channel: an HTTP/1 or HTTP/2 channel.
    """
    streams: Any = getattr(channel, "streams", None)
    responses = list(streams.values()) if isinstance(streams, dict) else getattr(channel, "requests", ())
    return [each.producer for each in responses if getattr(each, "producer", None) is not None]
