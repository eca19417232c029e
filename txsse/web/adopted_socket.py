"""
Keeps the listening UNIX sockets of another process, such as systemd, as that process made them.

Twisted treats such a socket as its own: it makes the file writable for all users, and at the end deletes the
file and shuts the socket down. After that, no client could connect to the next process, to which systemd
passes the same socket. TCP sockets do not have this problem.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from contextlib import suppress

from twisted.internet import tcp
from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

__all__ = ["is_adopted", "keep_socket", "mode_of_file"]

# Endpoints may be wrapped in another one.
_SYSTEMD = re.compile(r"(?:haproxy:)?systemd:", re.IGNORECASE)

# Windows does not have it.
_AF_UNIX: int | None = getattr(socket, "AF_UNIX", None)


def is_adopted(description: str, endpoint: object) -> bool:
    """
    Return whether another process has made the socket of an endpoint.
    """
    return _SYSTEMD.match(description) is not None or isinstance(endpoint, AdoptedStreamServerEndpoint)


def mode_of_file(endpoint: object) -> tuple[str, int] | None:
    """
    Return the path and the mode of the file of a UNIX socket that another process has made.

    :returns: ``None`` for all other endpoints, and for a socket without a file.
    """
    if isinstance(endpoint, AdoptedStreamServerEndpoint) and endpoint.addressFamily == _AF_UNIX:
        with suppress(OSError, ValueError), socket.socket(fileno=os.dup(endpoint.fileno)) as adopted:
            path = adopted.getsockname()
            # The name of an abstract socket begins with NUL, which a path cannot.
            return path, stat.S_IMODE(os.stat(path).st_mode)
    return None


def keep_socket(port: IListeningPort) -> None:
    """
    Make a port close its socket at the end, instead of shutting it down and deleting its file.
    """
    if not isinstance(port, tcp.Port) or not isinstance(port.getHost(), UNIXAddress):
        return

    def lose(reason: Failure) -> None:
        port.socket = _Shared(port.socket)
        # Not the method of the port's own class, which deletes the file.
        tcp.Port.connectionLost(port, reason)

    port.connectionLost = lose  # type: ignore[method-assign]


class _Shared:
    """
    A socket that is closed in this process only.
    """

    def __init__(self, made: socket.socket) -> None:
        self._made = made

    def shutdown(self, how: int) -> None:
        """
        Do nothing: it would shut the socket down for all processes that have it.
        """

    def close(self) -> None:
        """
        Close the socket in this process.
        """
        self._made.close()
