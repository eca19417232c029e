"""
Notice a peer that vanished without a word: a laptop that was closed, a network that went away.

Nothing arrives from such a peer, so only what is sent can show it: the keep-alive at the latest. The kernel
waits for the acknowledgement for some 15 minutes, unless TCP_USER_TIMEOUT says less.

Source: https://www.rfc-editor.org/rfc/rfc5482 and tcp(7)
"""

from __future__ import annotations

import socket
from typing import Any
from weakref import WeakKeyDictionary

from twisted.web.http import Request

__all__ = ["PeerTimeout"]

_OPTION: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


class PeerTimeout:
    """
    Set the option on the sockets of open streams and restore it at their end, since a connection is used
    for other requests later. The streams of one HTTP/2 connection share a socket, so holds are counted.

    :param seconds: how long sent bytes may stay without an acknowledgement; ``None`` to change nothing.
    """

    def __init__(self, seconds: float | None) -> None:
        self._milliseconds = None if seconds is None else max(1, round(seconds * 1000))
        self._held: WeakKeyDictionary[socket.socket, tuple[int, int]] = WeakKeyDictionary()

    def hold(self, request: Request) -> socket.socket | None:
        """
        Begin a stream.

        :returns: what :meth:`release` takes at its end: the socket, or ``None`` where there is nothing to
            be set, as with UNIX sockets or on systems without the option.
        """
        if self._milliseconds is None or _OPTION is None:
            return None
        found = _socket_of(request)
        if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        streams, before = self._held.get(found, (0, 0))
        if not streams:
            before = found.getsockopt(socket.IPPROTO_TCP, _OPTION)
            found.setsockopt(socket.IPPROTO_TCP, _OPTION, self._milliseconds)
        self._held[found] = (streams + 1, before)
        return found

    def release(self, held: socket.socket | None) -> None:
        """
        End a stream.
        """
        if held is None or _OPTION is None:
            return
        streams, before = self._held.pop(held)
        if streams > 1:
            self._held[held] = (streams - 1, before)
        elif held.fileno() != -1:
            held.setsockopt(socket.IPPROTO_TCP, _OPTION, before)


def _socket_of(request: Request) -> socket.socket | None:
    """
    Find the socket below a request: below TLS and other wrappers, and below HTTP/2's streams.
    """
    layer: Any = request.channel
    layer = getattr(layer, "_conn", layer)
    while layer is not None:
        found = vars(layer).get("socket") if hasattr(layer, "__dict__") else None
        if isinstance(found, socket.socket):
            return found
        layer = getattr(layer, "transport", None)
    return None
