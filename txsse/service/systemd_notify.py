"""
Notifies systemd that the service is ready, and that it is stopping.

Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from twisted.logger import Logger

__all__ = ["Notifier"]

_log = Logger()


class Notifier:
    """
    Sends states to the socket in ``NOTIFY_SOCKET``; does nothing without that variable.

    :param environ: the environment. The variable is removed from it.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        # Child processes must not notify in the name of this one.
        self._address = environ.pop("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """
        Notify that the service is ready.
        """
        self._send("READY=1")

    def stopping(self) -> None:
        """
        Notify that the service is stopping.
        """
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # A leading @ stands for an abstract socket, whose name begins with NUL.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifying:
                notifying.connect(address)
                notifying.send(state.encode())
        except OSError as error:
            _log.error("cannot notify {address}: {error}", address=self._address, error=error)
