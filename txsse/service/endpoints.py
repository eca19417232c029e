"""
The endpoints that the service listens on: made from their strings, and with errors that say what to do.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site

from txsse._extras import missing
from txsse.service.config import DEFAULT_ENDPOINT, BadConfig

__all__ = ["Listener", "check_listens", "make_endpoint"]

_log = Logger()


class Listener(Service):
    """
    One endpoint on which a site listens.

    :param description: the endpoint string.
    :param endpoint: the endpoint.
    :param site: the site.
    :param announce: called with the URL of the site at this endpoint, once it listens.
    """

    def __init__(
        self,
        description: str,
        endpoint: IStreamServerEndpoint,
        site: Site,
        announce: Callable[[str], object],
    ) -> None:
        self._description = description
        self._endpoint = endpoint
        self._site = site
        self._announce = announce
        self._listening: Deferred[IListeningPort | None] | None = None

    def privilegedStartService(self) -> None:
        """
        Listen. ``twistd`` calls this before it gives up its privileges; ``twist`` does not call it.

        :raises SystemExit: with one line, if the endpoint cannot listen.
        """
        Service.privilegedStartService(self)
        refused: list[str] = []
        starting = True

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError):
                return
            refused.append(_why_not(self._description, failure))
            if not starting:
                # An endpoint that listens later fails after this method has returned, so it cannot raise.
                _log.error("{problem}", problem=refused[0])

        listening = self._endpoint.listen(self._site)
        self._listening = listening.addCallbacks(self._listens, failed)
        starting = False
        if refused:
            # One line, even if the endpoint's error has several.
            raise SystemExit(" ".join(f"twist txsse: {refused[0]}".split()))

    def startService(self) -> None:
        """
        Listen, unless :meth:`privilegedStartService` has done so.
        """
        Service.startService(self)
        if self._listening is None:
            self.privilegedStartService()

    def stopService(self) -> Deferred[None]:
        """
        Stop listening. The connections stay open.
        """
        Service.stopService(self)
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        listening.cancel()
        return listening.addCallback(_stop_listening)

    def _listens(self, port: IListeningPort) -> IListeningPort:
        self._announce(_url(self._description, port.getHost()))
        return port


def check_listens(endpoints: Sequence[str]) -> None:
    """
    Check that a service has an endpoint.

    :raises BadConfig: without one.
    """
    if not endpoints:
        raise BadConfig(f"--listen: no endpoint is given; give one, such as {DEFAULT_ENDPOINT}")


def make_endpoint(reactor: IReactorTime, description: str) -> IStreamServerEndpoint:
    """
    Make an endpoint from its string.

    :raises BadConfig: for an invalid string.
    """
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as error:
        # Any exception: the parser of each kind of endpoint, including those of plugins, raises its own.
        raise BadConfig(f"cannot listen on {description!r}: {_what_is_wrong(error)}") from None
    return endpoint


def _what_is_wrong(error: Exception) -> str:
    """
    Return what is wrong with an endpoint string, and what to do.
    """
    if isinstance(error, ImportError):
        return str(missing("tls", "TLS", error))
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot read {os.fsdecode(error.filename)} ({error.strerror}); name a file in PEM format"
    if type(error).__module__.startswith("OpenSSL"):
        return (
            "the certificate or its private key cannot be read; name files in PEM format, as "
            "privateKey=key.pem:certKey=cert.pem"
        )
    problem = str(error)
    for pattern, replacement in _PYTHONS_WORDS:
        problem = pattern.sub(replacement, problem)
    return f"{problem}; write it like {DEFAULT_ENDPOINT} or ssl:8443:privateKey=server.pem"


# Messages of int() and of calls with wrong arguments: they name Python functions, which an operator does not
# know.
_PYTHONS_WORDS = [
    (re.compile(r"^invalid literal for int\(\) with base \d+: (.*)"), r"\1 is not a number"),
    (re.compile(r"^[\w.<>]+\(\) "), ""),
]


def _why_not(description: str, failure: Failure) -> str:
    """
    Return why an endpoint cannot listen, and what to do.
    """
    error = failure.value
    reason = error.socketError if isinstance(error, CannotListenError) else error
    number = reason.errno if isinstance(reason, OSError) else None
    if number == errno.EADDRINUSE:
        advice = "it is in use; stop the process that listens there, or choose another endpoint with --listen"
    elif number in (errno.EACCES, errno.EPERM):
        advice = "it needs privileges; choose a port above 1023, or a path that you may write to"
    elif number == errno.EADDRNOTAVAIL:
        advice = "this machine does not have that address; choose another interface"
    elif isinstance(reason, OverflowError):
        advice = "the port does not exist; choose one up to 65535"
    else:
        advice = f"{reason.strerror if isinstance(reason, OSError) else reason}; choose another endpoint"
    return f"cannot listen on {description!r}: {advice}"


def _url(description: str, address: IAddress) -> str:
    """
    Return the URL by which a browser on this machine reaches an address.
    """
    scheme = "https" if re.match("ssl:|tls:", description, re.IGNORECASE) else "http"
    if isinstance(address, IPv4Address):
        host = "127.0.0.1" if address.host == "0.0.0.0" else address.host
    elif isinstance(address, IPv6Address):
        host = "[::1]" if address.host == "::" else f"[{address.host}]"
    else:
        return description
    return f"{scheme}://{host}:{address.port}/"


def _stop_listening(port: IListeningPort | None) -> Deferred[None] | None:
    return port.stopListening() if port is not None else None
