"""
Telling a service manager how the service is.

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
    Tells systemd, where it wants to know.

    :param environ: the environment, which says where.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        # Not for processes that this one starts.
        self._address = environ.pop("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """
        The service can be used.
        """
        self._tell("READY=1")

    def stopping(self) -> None:
        """
        The service ends.
        """
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # One that begins with @ is an abstract one, whose name begins with NUL.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifying:
                notifying.connect(address)
                notifying.send(state.encode())
        except OSError as error:
            _log.error("cannot tell {address}: {error}", address=self._address, error=error)
