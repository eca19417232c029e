"""
Detect a peer that disappeared without closing its connection: a suspended laptop, a lost network.

Nothing arrives from such a peer, so only unacknowledged data shows it: the keep-alive at the latest. The
kernel waits for an acknowledgement for some 15 minutes, unless TCP_USER_TIMEOUT sets a shorter time. Linux
applies that time to a closed receive window, too: it also aborts the connection of a client that is connected
and reads nothing.

Source: https://www.rfc-editor.org/rfc/rfc5482 and tcp(7)
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field
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

# The errors with which the kernel gives a peer up: the last ICMP error that arrived meanwhile replaces
# ETIMEDOUT. On an established connection, none of them has another cause.
_GIVEN_UP = frozenset([errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED])

# The sockets whose peers the kernel has given up.
_lost: WeakSet[socket.socket] = WeakSet()


def note_error(connection: socket.socket, error: OSError) -> None:
    """
    Record that the kernel has given the peer up, if an error says so. A socket reports each error once.
    """
    if error.errno in _GIVEN_UP:
        _lost.add(connection)


class _WatchedSocket(socket.socket):
    """
    A socket that records why its connection was lost.

    Twisted reports every error as ``ConnectionLost``, without saying which one it was.
    """

    __slots__ = ()

    # Repeated here for speed: a hub calls it for each frame, and would search the base classes each time.
    send = socket.socket.send

    def recv(self, *arguments: int) -> bytes:
        """
        Receive; Twisted calls this to fetch a pending error.
        """
        try:
            return super().recv(*arguments)
        except OSError as error:
            note_error(self, error)
            raise

    def close(self) -> None:
        """
        Close the socket, after fetching a pending error, which Twisted has not fetched if it does not read.
        """
        if self.fileno() != -1:
            note_error(self, OSError(self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), ""))
        super().close()


def _watch(connection: socket.socket) -> None:
    # A changed class rather than a wrapper, which would add a call to each send.
    if type(connection) is socket.socket:
        connection.__class__ = _WatchedSocket


@dataclass
class _Held:
    """
    The value of the option before the first stream of a socket, and the values that its open streams need.
    """

    before: int
    wanted: list[int] = field(default_factory=list)


# One socket may have several streams: those of one HTTP/2 connection, and, for a moment, a stream that ends
# and the pipelined one that follows. Each stream may belong to another upgrader.
_held: WeakKeyDictionary[socket.socket, _Held] = WeakKeyDictionary()


class PeerTimeout:
    """
    Set TCP_USER_TIMEOUT on the sockets of open streams, and restore it when a socket's last stream ends.

    It is restored because the connection serves other requests later. If streams of one socket have different
    times, the shortest one applies.

    :param seconds: how long sent bytes may stay unacknowledged; ``None`` to leave the option unchanged.
    """

    def __init__(self, seconds: float | None) -> None:
        self._milliseconds = None if seconds is None else max(1, round(seconds * 1000))

    def hold(self, request: Request) -> socket.socket | None:
        """
        Begin a stream.

        :returns: the argument for :meth:`release`: the socket, or ``None`` if the option is not set, as with
            UNIX sockets or on systems without it.
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

        :param held: the value that :meth:`hold` returned.
        :param reused: whether the connection serves other requests. If not, unsent data may remain, and the
            peer may disappear before it is sent, so the option stays set until the connection is closed.
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
        Return why a connection was lost: a ``TCPTimedOutError`` if the kernel has given the peer up.

        :param failure: the reason that Twisted reports.
        :param held: the socket; ``None`` if it is not known.
        """
        return Failure(TCPTimedOutError()) if held in _lost else failure

    def hold_alone(self, connection: socket.socket) -> int | None:
        """
        Begin a stream on a connection that has no other stream until this one ends.

        :returns: the argument for :meth:`release_alone`.
        """
        if self._milliseconds is None or _OPTION is None or connection.family not in _INTERNET:
            return None
        _watch(connection)
        before = connection.getsockopt(socket.IPPROTO_TCP, _OPTION)
        connection.setsockopt(socket.IPPROTO_TCP, _OPTION, self._milliseconds)
        return before

    def release_alone(self, connection: socket.socket, before: int | None, *, reused: bool) -> None:
        """
        End a stream that :meth:`hold_alone` began.

        :param reused: as for :meth:`release`.
        """
        if before is not None and _OPTION is not None and reused:
            connection.setsockopt(socket.IPPROTO_TCP, _OPTION, before)
