"""
Access to Twisted's TCP transports: writing to the socket at once, and finding the socket of a request.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IProtocol
from twisted.web.http import HTTPChannel, Request

from txsse._twisted.types import StreamTransport

__all__ = [
    "plain_transport",
    "protocol_of",
    "raw_socket",
    "send_now",
    "set_paused",
    "set_protocol",
    "socket_of",
    "transport_of",
]


def transport_of(channel: HTTPChannel) -> StreamTransport:
    """
    Return the transport of an HTTP/1 channel, over TCP, TLS or a UNIX socket.
    """
    transport: Any = channel.transport
    found: StreamTransport = transport
    return found


def plain_transport(channel: object) -> Any:
    """
    Return the transport of an HTTP/1 channel, if :func:`send_now` may be used with it; otherwise ``None``.

    It must be Twisted's own, on a plain socket, with buffers that are as expected.
    """
    transport: Any = getattr(channel, "transport", None)
    if (
        type(transport) is tcp.Server
        and isinstance(getattr(transport, "_tempDataBuffer", None), list)
        and isinstance(getattr(transport, "dataBuffer", None), bytes)
        and hasattr(transport, "socket")
        and hasattr(transport, "protocol")
        and hasattr(transport, "producerPaused")
    ):
        return transport
    return None


def send_now(
    transport: Any, data: bytes, size: int, note_error: Callable[[socket.socket, OSError], object]
) -> bool:
    """
    Send bytes at once, unless the transport has buffered bytes that must be sent before them.

    The transport buffers the bytes that the socket does not accept.

    :param transport: a result of :func:`plain_transport`.
    :param data: the bytes.
    :param size: their number.
    :param note_error: called with an error of the socket.
    :returns: ``False`` if the transport has buffered bytes; then nothing is sent.
    """
    if transport.dataBuffer or transport._tempDataBuffer:
        return False
    try:
        sent = transport.socket.send(data)
    except OSError as error:
        # The socket's buffer is full, the connection is dead, or the system is out of buffers:
        # transport.write() handles all of these.
        note_error(transport.socket, error)
        sent = 0
    if sent < size:
        transport.write(data[sent:])
        # The transport's buffer is far from full, but only a paused producer is resumed when it is empty.
        if transport.producer is not None and not transport.producerPaused:
            transport.producerPaused = True
            transport.producer.pauseProducing()
    return True


def set_paused(transport: Any, paused: bool) -> None:
    """
    Set whether the producer of a transport is paused; a paused one is resumed when the buffer is empty.

    :param transport: a result of :func:`plain_transport`.
    """
    transport.producerPaused = paused


def protocol_of(transport: Any) -> object:
    """
    Return the protocol that receives the bytes of a transport.

    :param transport: a result of :func:`plain_transport`.
    """
    return transport.protocol


def set_protocol(transport: Any, protocol: IProtocol) -> None:
    """
    Set the protocol that receives the bytes of a transport.

    :param transport: a result of :func:`plain_transport`.
    """
    transport.protocol = protocol


def raw_socket(transport: Any) -> Any:
    """
    Return the socket of a transport.

    :param transport: a result of :func:`plain_transport`.
    """
    return transport.socket


def socket_of(request: Request) -> socket.socket | None:
    """
    Return the TCP or UNIX socket of a request's connection; ``None`` if no socket is found.

    It is searched below TLS and other wrappers, and below the streams of HTTP/2.
    """
    layer: Any = request.channel
    layer = getattr(layer, "_conn", layer)
    while layer is not None:
        found = vars(layer).get("socket") if hasattr(layer, "__dict__") else None
        if isinstance(found, socket.socket):
            return found
        layer = getattr(layer, "transport", None)
    return None
