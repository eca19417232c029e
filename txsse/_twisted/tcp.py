"""
Twisted's TCP transports: whether something waits to be sent, and the socket below a request.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer, ITCPTransport
from twisted.web.http import Request

__all__ = [
    "StreamTransport",
    "plain_transport",
    "protocol_of",
    "raw_socket",
    "send_now",
    "set_paused",
    "set_protocol",
    "socket_of",
]


class StreamTransport(ITCPTransport, IConsumer, IPushProducer):
    """
    What Twisted's transports of bytes provide, over TCP, TLS and UNIX sockets. It is a type, to annotate
    ``Protocol.transport`` with: no transport declares it.
    """


def plain_transport(channel: object) -> Any:
    """
    Return the transport of an HTTP/1 channel where :func:`send_now` may be used with it: one of Twisted's
    own, on a plain socket, whose buffers are where they are expected; ``None`` otherwise.
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
    Send bytes at once, unless others wait to be sent before them. The transport sends what the socket does
    not take.

    :param transport: what :func:`plain_transport` returned.
    :param data: the bytes.
    :param size: how many they are.
    :param note_error: called with an error of the socket.
    :returns: ``False`` where others wait: nothing was sent.
    """
    if transport.dataBuffer or transport._tempDataBuffer:
        return False
    try:
        sent = transport.socket.send(data)
    except OSError as error:
        # The socket is full, or the connection dead, or the system short of buffers: the transport knows what
        # to do.
        note_error(transport.socket, error)
        sent = 0
    if sent < size:
        transport.write(data[sent:])
        # Though its buffer is far from full, it is to notify its producer when it is empty.
        if transport.producer is not None and not transport.producerPaused:
            transport.producerPaused = True
            transport.producer.pauseProducing()
    return True


def set_paused(transport: Any, paused: bool) -> None:
    """
    Say whether the producer of a transport waits: one that does is resumed when the transport has sent
    everything.

    :param transport: what :func:`plain_transport` returned.
    """
    transport.producerPaused = paused


def protocol_of(transport: Any) -> object:
    """
    Return the protocol that receives what a transport reads.

    :param transport: what :func:`plain_transport` returned.
    """
    return transport.protocol


def set_protocol(transport: Any, protocol: IProtocol) -> None:
    """
    Have another protocol receive what a transport reads.

    :param transport: what :func:`plain_transport` returned.
    """
    transport.protocol = protocol


def raw_socket(transport: Any) -> Any:
    """
    Return the socket that a transport reads from and writes to.

    :param transport: what :func:`plain_transport` returned.
    """
    return transport.socket


def socket_of(request: Request) -> socket.socket | None:
    """
    Return the socket below a request: below TLS and other wrappers, and below the streams of HTTP/2; ``None``
    where none is found.
    """
    layer: Any = request.channel
    layer = getattr(layer, "_conn", layer)
    while layer is not None:
        found = vars(layer).get("socket") if hasattr(layer, "__dict__") else None
        if isinstance(found, socket.socket):
            return found
        layer = getattr(layer, "transport", None)
    return None
