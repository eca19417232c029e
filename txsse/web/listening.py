"""
The endpoints that a site listens on: made from their strings, and with errors that say what to do.

Strategy: an endpoint is made from its string before its service starts, and touches no socket until then.
``twistd`` daemonises in between; the new process does not have the PID that systemd's ``LISTEN_PID`` names,
and may not be allowed to read the private key.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from typing import cast

from twisted.application.service import MultiService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site

from txsse._arguments import wrong_type
from txsse._extras import missing
from txsse._typing import AnyEndpoint
from txsse.errors import ListenFailed
from txsse.web.adopted_socket import is_adopted, keep_socket, mode_of_file

__all__ = ["Listener", "Listeners", "as_endpoints", "make_endpoint"]

_log = Logger()

_EXAMPLE = "tcp:8080:interface=127.0.0.1"


class Listener(Service):
    """
    One endpoint on which a site listens.

    :param description: the endpoint string, or a name of the endpoint.
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

        :raises ListenFailed: if the endpoint cannot listen.
        """
        Service.privilegedStartService(self)
        refused: list[ListenFailed] = []
        starting = True

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError):
                return
            refused.append(ListenFailed(self._description, _why_not(failure)))
            if not starting:
                # An endpoint that listens later fails after this method has returned, so it cannot raise.
                _log.error("{problem}", problem=str(refused[0]))

        # Twisted makes the file of a UNIX socket writable for all users, even if systemd made it.
        kept = mode_of_file(self._endpoint)
        listening = self._endpoint.listen(self._site)
        if kept is not None:
            listening.addCallback(_restore_mode, *kept)
        self._listening = listening.addCallbacks(self._listens, failed)
        starting = False
        if refused:
            self._listening = None
            raise refused[0]

    def startService(self) -> None:
        """
        Listen, unless :meth:`privilegedStartService` has done so.
        """
        if self._listening is None:
            self.privilegedStartService()
        Service.startService(self)

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
        address = port.getHost()
        if is_adopted(self._description, self._endpoint):
            keep_socket(port)
        try:
            self._announce(_url(self._description, address))
        except Exception:
            # The port listens all the same, and has to be closed at the end.
            _log.failure("the URL of {endpoint} cannot be announced", endpoint=self._description)
        return port


class Listeners(MultiService):
    """
    The listeners of a site: all of them listen, or none.

    :param endpoints: the endpoints, as :func:`as_endpoints` returns them.
    :param site: the site.
    :param announce: as for :class:`Listener`.
    """

    def __init__(
        self,
        endpoints: Iterable[tuple[str, IStreamServerEndpoint]],
        site: Site,
        announce: Callable[[str], object],
    ) -> None:
        MultiService.__init__(self)
        for description, endpoint in endpoints:
            MultiService.addService(self, Listener(description, endpoint, site, announce))

    def privilegedStartService(self) -> None:
        """
        Listen on all endpoints, or on none.

        :raises ListenFailed: if one of them cannot listen.
        """
        try:
            MultiService.privilegedStartService(self)
        except ListenFailed:
            self.stopService()
            raise

    def startService(self) -> None:
        """
        Listen on all endpoints, or on none, unless :meth:`privilegedStartService` has done so.

        :raises ListenFailed: if one of them cannot listen.
        """
        try:
            MultiService.startService(self)
        except ListenFailed:
            self.stopService()
            raise

    def stopService(self) -> Deferred[object]:
        """
        Stop listening. The connections stay open.
        """
        stopped: Deferred[object] = MultiService.stopService(self)
        return stopped


def as_endpoints(
    reactor: IReactorTime, endpoints: str | AnyEndpoint | Iterable[str | AnyEndpoint]
) -> list[tuple[str, IStreamServerEndpoint]]:
    """
    Make endpoints from strings, and name those that are endpoints already.

    :param endpoints: one endpoint or several, as strings or as objects.
    :returns: each endpoint with its string or its name.
    :raises ValueError: for an invalid string, and without an endpoint.
    :raises TypeError: for other objects.
    """
    single = isinstance(endpoints, str) or IStreamServerEndpoint.providedBy(endpoints)
    if not single and (isinstance(endpoints, bytes) or not isinstance(endpoints, Iterable)):
        raise _not_endpoint(endpoints)
    found: list[tuple[str, IStreamServerEndpoint]] = []
    for each in [endpoints] if single else cast("Iterable[object]", endpoints):
        if isinstance(each, str):
            found.append((each, make_endpoint(reactor, each)))
        elif IStreamServerEndpoint.providedBy(each):
            found.append((_name_of(each), each))
        else:
            raise _not_endpoint(each)
    if not found:
        raise ValueError(f"endpoints must not be empty; give one, such as {_EXAMPLE!r}")
    return found


def _not_endpoint(value: object) -> TypeError:
    return wrong_type(
        "endpoints", value, f"an endpoint string such as {_EXAMPLE!r}, an IStreamServerEndpoint, or several"
    )


def _name_of(endpoint: object) -> str:
    kind = type(endpoint).__name__
    # So that the URL of the endpoint begins with https.
    return f"ssl: {kind}" if isinstance(endpoint, SSL4ServerEndpoint) else kind


def make_endpoint(reactor: IReactorTime, description: str) -> IStreamServerEndpoint:
    """
    Make an endpoint from its string.

    :raises ValueError: for an invalid string.
    """
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as error:
        # Any exception: the parser of each kind of endpoint, including those of plugins, raises its own.
        raise ValueError(f"cannot listen on {description!r}: {_what_is_wrong(error)}") from None
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
    return f"{problem}; write it like {_EXAMPLE} or ssl:8443:privateKey=server.pem"


# Messages of int() and of calls with wrong arguments: they name Python functions, which an operator does not
# know.
_PYTHONS_WORDS = [
    (re.compile(r"^invalid literal for int\(\) with base \d+: (.*)"), r"\1 is not a number"),
    (re.compile(r"^[\w.<>]+\(\) "), ""),
]


def _why_not(failure: Failure) -> str:
    """
    Return why an endpoint cannot listen, and what to do.
    """
    error = failure.value
    reason = error.socketError if isinstance(error, CannotListenError) else error
    number = reason.errno if isinstance(reason, OSError) else None
    if number == errno.EADDRINUSE:
        advice = "it is in use; stop the process that listens there, or choose another endpoint"
    elif number in (errno.EACCES, errno.EPERM):
        advice = "it needs privileges; choose a port above 1023, or a path that you may write to"
    elif number == errno.EADDRNOTAVAIL:
        advice = "this machine does not have that address; choose another interface"
    elif isinstance(reason, OverflowError):
        advice = "the port does not exist; choose one up to 65535"
    else:
        advice = f"{reason.strerror if isinstance(reason, OSError) else reason}; choose another endpoint"
    # One line, even if the endpoint's error has several.
    return " ".join(advice.split())


# Endpoints may be wrapped in others, such as haproxy:ssl:443:privateKey=server.pem.
_TLS = re.compile(r"(?:haproxy:)?(?:ssl|tls):", re.IGNORECASE)


def _restore_mode(port: IListeningPort, path: str, mode: int) -> IListeningPort:
    os.chmod(path, mode)
    return port


def _url(description: str, address: IAddress) -> str:
    """
    Return the URL by which a browser on this machine reaches an address.
    """
    scheme = "https" if _TLS.match(description) else "http"
    if isinstance(address, IPv4Address):
        host = "127.0.0.1" if address.host == "0.0.0.0" else address.host
    elif isinstance(address, IPv6Address):
        host = "[::1]" if address.host == "::" else f"[{address.host}]"
    else:
        return description
    return f"{scheme}://{host}:{address.port}/"


def _stop_listening(port: IListeningPort | None) -> Deferred[None] | None:
    return port.stopListening() if port is not None else None
