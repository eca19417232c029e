"""
``twist txsse``: txsse as a service.

Strategy: whatever is wrong with the command line, or with what it asks for, ends the process with one line on
stderr, by :exc:`SystemExit`: ``twist`` itself would print all of its usage, or a traceback. At the end of the
service no stream is cut off: it ends as by :meth:`txsse.SSEChannel.close`, and its client can tell.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from twisted.application.service import MultiService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.web.server import Site

from txsse._reactor import global_reactor
from txsse._version import __version__
from txsse.demo.resource import Demo
from txsse.hub.named import JOURNAL_NAMES
from txsse.server.site import ClosingSite

__all__ = ["Options", "makeService"]

_log = Logger()

_DEFAULT_ENDPOINT = "tcp:8080:interface=127.0.0.1"


class Options(usage.Options):
    """
    The options of ``twist txsse``.
    """

    synopsis = "[--listen=ENDPOINT ...] [--journal=NAME] --demo"
    longdesc = f"Server-sent events over HTTP. Without --listen it listens on {_DEFAULT_ENDPOINT}."
    optParameters = [  # noqa: RUF012
        ["journal", None, "memory:", f"What those who come back resume from: {JOURNAL_NAMES}."],
    ]
    optFlags = [  # noqa: RUF012
        ["demo", None, "Serve a page that shows live streams in a browser."],
    ]

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """
        An endpoint to listen on, such as tcp:8080, or ssl:8443:privateKey=server.pem for TLS; may be
        repeated.
        """
        self["listen"].append(endpoint)

    def opt_version(self) -> NoReturn:
        """
        Display the version and exit.
        """
        sys.stdout.write(f"txsse {__version__.public()}\n")
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:  # noqa: N802
        """
        Refuse what is no option.
        """
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}")

    def postOptions(self) -> None:
        """
        Refuse to serve nothing, and fill in what was left out.
        """
        if not self["demo"]:
            raise usage.UsageError("nothing to serve yet: ask for --demo")
        self["listen"] = self["listen"] or [_DEFAULT_ENDPOINT]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read a command line.

        :raises SystemExit: with one line, where it is wrong.
        """
        try:
            usage.Options.parseOptions(self, options)
        except usage.UsageError as error:
            _exit(f"{error}; see twist txsse --help")


def makeService(options: Options) -> MultiService:
    """
    Make the service.

    :param options: what it is to be like.
    :returns: the service, not started yet.
    :raises SystemExit: with one line, where an endpoint cannot be.
    """
    reactor = global_reactor()
    try:
        demo = Demo(reactor, options["journal"])
    except (ValueError, ImportError) as error:
        _exit(f"--journal: {error}")
    site = ClosingSite(demo, reactor=reactor)
    listeners = [
        Listener(description, _endpoint(reactor, description), site) for description in options["listen"]
    ]
    return HTTPService(reactor, demo, site, listeners)


class HTTPService(MultiService):
    """
    A web tree behind all of its endpoints.

    :param reactor: the reactor.
    :param demo: the web tree.
    :param site: the site that serves it.
    :param listeners: what the site listens on.
    """

    def __init__(
        self, reactor: IReactorTime, demo: Demo, site: ClosingSite, listeners: Iterable[Listener]
    ) -> None:
        MultiService.__init__(self)
        for listener in listeners:
            MultiService.addService(self, listener)
        self._reactor = reactor
        self._demo = demo
        self._site = site

    def startService(self) -> None:
        """
        Listen, and start what takes its time. That the hub's journal did not start is in the log, and it is
        tried again when it is needed.
        """
        MultiService.startService(self)
        self._demo.start().addErrback(lambda _: None)

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, end all streams and close all connections.

        :returns: a Deferred that fires when that is done, and nothing of it is left in the reactor.
        """
        return Deferred.fromCoroutine(self._stop(MultiService.stopService(self)))

    async def _stop(self, listeners_stopped: Deferred[object]) -> None:
        await listeners_stopped
        await self._demo.stop()
        # In the same turn, so that no connection brings a request in between.
        await self._site.close()
        # A stream's handler is cancelled in the turn after its end.
        await deferLater(self._reactor, 0)


class Listener(Service):
    """
    One endpoint on which a site listens.

    :param description: the endpoint string.
    :param endpoint: the endpoint.
    :param site: the site.
    """

    def __init__(self, description: str, endpoint: IStreamServerEndpoint, site: Site) -> None:
        self._description = description
        self._endpoint = endpoint
        self._site = site
        self._listening: Deferred[IListeningPort | None] | None = None

    def privilegedStartService(self) -> None:
        """
        Listen. ``twistd`` calls this before it gives up its privileges; ``twist`` does not call it.

        :raises SystemExit: with one line, where that is not possible.
        """
        Service.privilegedStartService(self)
        refused: list[str] = []
        starting = True

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError):
                return
            refused.append(_why_not(self._description, failure))
            if not starting:
                # An endpoint that takes its time fails when nobody is there any more to be told.
                _log.error("{problem}", problem=refused[0])

        listening = self._endpoint.listen(self._site)
        self._listening = listening.addCallbacks(self._listens, failed)
        starting = False
        if refused:
            _exit(refused[0])

    def startService(self) -> None:
        """
        Listen, unless that is done.
        """
        Service.startService(self)
        if self._listening is None:
            self.privilegedStartService()

    def stopService(self) -> Deferred[None]:
        """
        Listen no more.
        """
        Service.stopService(self)
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        listening.cancel()
        return listening.addCallback(_stop_listening)

    def _listens(self, port: IListeningPort) -> IListeningPort:
        _log.info("The demo is at {url}", url=_url(self._description, port.getHost()))
        return port


def _endpoint(reactor: IReactorTime, description: str) -> IStreamServerEndpoint:
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as error:
        # Whatever it is: each kind of endpoint, plugins among them, raises what its parser runs into.
        _exit(f"cannot listen on {description!r}: {_what_is_wrong(error)}")
    return endpoint


def _what_is_wrong(error: Exception) -> str:
    """
    Say what is wrong with an endpoint string, and what to do.
    """
    if isinstance(error, ImportError):
        return f"{error}; for TLS, install Twisted[tls]"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot read {os.fsdecode(error.filename)} ({error.strerror}); name a file in PEM format"
    if type(error).__module__.startswith("OpenSSL"):
        return "no certificate with its key; name files in PEM format, as privateKey=key.pem:certKey=cert.pem"
    problem = str(error)
    for pattern, replacement in _PYTHONS_WORDS:
        problem = pattern.sub(replacement, problem)
    return f"{problem}; write it like {_DEFAULT_ENDPOINT} or ssl:8443:privateKey=server.pem"


# What int() says, and what a call says, with the name of a function that only its authors know.
_PYTHONS_WORDS = [
    (re.compile(r"^invalid literal for int\(\) with base \d+: (.*)"), r"\1 is not a number"),
    (re.compile(r"^[\w.<>]+\(\) "), ""),
]


def _why_not(description: str, failure: Failure) -> str:
    """
    Say why there is no listening on an endpoint, and what to do.
    """
    error = failure.value
    reason = error.socketError if isinstance(error, CannotListenError) else error
    number = reason.errno if isinstance(reason, OSError) else None
    if number == errno.EADDRINUSE:
        advice = "it is in use; stop what listens there, or choose another one with --listen"
    elif number in (errno.EACCES, errno.EPERM):
        advice = "it takes privileges; choose a port above 1023, or a path that is yours"
    elif number == errno.EADDRNOTAVAIL:
        advice = "this machine does not have that address; choose another interface"
    elif isinstance(reason, OverflowError):
        advice = "there is no such port; choose one up to 65535"
    else:
        advice = f"{reason.strerror if isinstance(reason, OSError) else reason}; choose another one"
    return f"cannot listen on {description!r}: {advice}"


def _url(description: str, address: IAddress) -> str:
    """
    Return the URL under which a browser on this machine reaches an address.
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


def _exit(problem: str) -> NoReturn:
    # One line, whatever others wrote into their errors.
    raise SystemExit("twist txsse: " + " ".join(problem.split()))
