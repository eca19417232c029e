"""
Notice a peer that vanished without a word: a laptop that was closed, a network that went away.

Nothing arrives from such a peer, so only what is sent can show it: the keep-alive at the latest. The kernel
waits for the acknowledgement for some 15 minutes, unless TCP_USER_TIMEOUT says less. Linux applies that time
to a closed receive window, too: it gives up a client that is there and reads nothing.

Source: https://www.rfc-editor.org/rfc/rfc5482 and tcp(7)
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from twisted.internet.error import TCPTimedOutError
from twisted.python.failure import Failure
from twisted.web.http import Request

from txsse._twisted.tcp import socket_of

__all__ = ["MAX_PEER_TIMEOUT", "PeerTimeout", "note_error"]

_OPTION: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
_INTERNET = (socket.AF_INET, socket.AF_INET6)

# The option is a C int of milliseconds; in seconds, this is 24 days.
MAX_PEER_TIMEOUT = (2**31 - 1) / 1000

# What the kernel says when it gives a peer up: the last ICMP error that came meanwhile takes the place of
# ETIMEDOUT. On a connection that was established, none of them means anything else.
_GIVEN_UP = frozenset([errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED])

# The sockets whose peers the kernel has given up.
_lost: WeakSet[socket.socket] = WeakSet()


def note_error(connection: socket.socket, error: OSError) -> None:
    """
    Take note of an error of a socket. A socket tells each error once.
    """
    if error.errno in _GIVEN_UP:
        _lost.add(connection)


class _WatchedSocket(socket.socket):
    """
    Notes why its connection was lost. Twisted reports every error but an orderly end as ``ConnectionLost``,
    and does not say which one it was.
    """

    __slots__ = ()

    # Here, too: a hub sends all day, and would look for it in the bases each time.
    send = socket.socket.send

    def recv(self, *arguments: Any) -> bytes:
        """
        Read, as Twisted does when an error is to be fetched.
        """
        try:
            return super().recv(*arguments)
        except OSError as error:
            note_error(self, error)
            raise

    def close(self) -> None:
        """
        Close the socket. Where Twisted does not read from it, nothing has fetched the error before.
        """
        if self.fileno() != -1:
            note_error(self, OSError(self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), ""))
        super().close()


def _watch(connection: socket.socket) -> None:
    # Instead of a wrapper around it: a stream sends to its socket without a detour.
    if type(connection) is socket.socket:
        connection.__class__ = _WatchedSocket


@dataclass
class _Held:
    """
    What a socket had before, and what its open streams want.
    """

    before: int
    wanted: list[int] = field(default_factory=list)


# A socket is shared: by the streams of one HTTP/2 connection, and for a moment by a stream that ends and the
# pipelined one that follows; and each may belong to another upgrader.
_held: WeakKeyDictionary[socket.socket, _Held] = WeakKeyDictionary()


class PeerTimeout:
    """
    Set the option on the sockets of open streams, and restore it when the last stream of a socket ends,
    since a connection is used for other requests later. Where streams differ, the shortest time counts.

    :param seconds: how long sent bytes may stay without an acknowledgement; ``None`` to change nothing.
    """

    def __init__(self, seconds: float | None) -> None:
        self._milliseconds = None if seconds is None else max(1, round(seconds * 1000))

    def hold(self, request: Request) -> socket.socket | None:
        """
        Begin a stream.

        :returns: what :meth:`release` takes at its end: the socket, or ``None`` where there is nothing to
            be set, as with UNIX sockets or on systems without the option.
        """
        if self._milliseconds is None or _OPTION is None:
            return None
        found = socket_of(request)
        if found is None or found.family not in _INTERNET:
            return None
        _watch(found)
        if found not in _held:
            _held[found] = _Held(found.getsockopt(socket.IPPROTO_TCP, _OPTION))
        _held[found].wanted.append(self._milliseconds)
        found.setsockopt(socket.IPPROTO_TCP, _OPTION, min(_held[found].wanted))
        return found

    def release(self, held: socket.socket | None, *, reused: bool = True) -> None:
        """
        End a stream.

        :param held: what :meth:`hold` returned.
        :param reused: whether the connection serves other requests. One that does not may still have
            something to send, to a peer that may vanish now; it keeps the option until it is closed.
        """
        if held is None or _OPTION is None or self._milliseconds is None:
            return
        wanted = _held[held].wanted
        wanted.remove(self._milliseconds)
        timeout = min(wanted) if wanted else _held[held].before
        if not wanted:
            del _held[held]
        if reused and held.fileno() != -1:
            held.setsockopt(socket.IPPROTO_TCP, _OPTION, timeout)

    def explain(self, failure: Failure, held: socket.socket | None) -> Failure:
        """
        Return why a connection was lost: a ``TCPTimedOutError`` where the kernel has given the peer up.

        :param failure: what Twisted says.
        :param held: the socket; ``None`` where that is not known.
        """
        return Failure(TCPTimedOutError()) if held in _lost else failure

    def hold_alone(self, connection: socket.socket) -> int | None:
        """
        Begin a stream on a connection that no other stream can share meanwhile.

        :returns: what :meth:`release_alone` takes at its end.
        """
        if self._milliseconds is None or _OPTION is None or connection.family not in _INTERNET:
            return None
        _watch(connection)
        before = connection.getsockopt(socket.IPPROTO_TCP, _OPTION)
        connection.setsockopt(socket.IPPROTO_TCP, _OPTION, self._milliseconds)
        return before

    def release_alone(self, connection: socket.socket, before: int | None, *, reused: bool) -> None:
        """
        End such a stream.

        :param reused: as for :meth:`release`.
        """
        if before is not None and _OPTION is not None and reused:
            connection.setsockopt(socket.IPPROTO_TCP, _OPTION, before)
