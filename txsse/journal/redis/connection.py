"""
A connection to Redis: the one place that knows its protocol's library.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from txsse._extras import needs
from txsse.errors import JournalFailed
from txsse.journal.redis.url import Address, Server

with needs("redis", "a journal in Redis"):
    import hiredis as _hiredis  # noqa: F401
    from twisted.internet.ssl import optionsForClientTLS
    from txredisapi import ConnectionError as LostConnection
    from txredisapi import HiredisProtocol, ResponseError

__all__ = ["Connection", "Refused", "connect", "explain"]


class _Protocol(HiredisProtocol):  # type: ignore[misc]
    """
    Bytes in, bytes out.
    """

    why_lost = ""

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)

    def tryConvertData(self, data: Any) -> Any:  # noqa: N802
        """
        Leave a reply as it is. The library would go through a page of entries string by string, and change
        nothing.
        """
        return data

    def _build_command(self, *arguments: str | bytes | int, **_: object) -> bytes:
        # The library's own would try each argument for each of its types.
        parts = [b"*%d\r\n" % len(arguments)]
        for argument in arguments:
            value = argument if isinstance(argument, bytes) else _encode(str(argument))
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
        return b"".join(parts)

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """
        Keep what TLS has against the peer.
        """
        reason = why.value.args[0] if why.value is not None and why.value.args else None
        if isinstance(reason, list) and reason:
            # As OpenSSL tells it: the last part of the last of its errors.
            self.why_lost = f": {reason[-1][-1]}"
        super().connectionLost(why)


def _encode(text: str) -> bytes:
    # A topic that somebody asks for may be any text, also one that no update can have.
    return text.encode("utf-8", "surrogatepass")


class _Protocols(Factory):
    noisy = False
    protocol = _Protocol


class Refused(JournalFailed):
    """
    The server has answered a command, and its answer is an error: another one may work.
    """


class Connection:
    """
    One connection. Every failure of it is a :exc:`~txsse.errors.JournalFailed` that says what to do.

    :param name: whose it is, for errors.
    :param timeout: how long a reply may take, in seconds.
    :ivar when_lost: fires when it is gone.
    """

    def __init__(self, protocol: Any, name: str, timeout: float, reactor: IReactorTime) -> None:
        self._protocol = protocol
        self._name = name
        self._timeout = timeout
        self._reactor = reactor
        self.when_lost: Deferred[Any] = protocol.whenDisconnected()

    def ask(self, *command: str | bytes | int) -> Deferred[Any]:
        """
        Send a command.

        :returns: a Deferred that fires with the reply. Where none comes in time, the connection is cut: what
            would come later could not be told from the reply to the next one.
        """
        try:
            reply: Deferred[Any] = self._protocol.execute_command(*command)
        except LostConnection:
            return fail(JournalFailed(self._name, self._lost()))
        reply.addTimeout(self._timeout, self._reactor)
        return reply.addErrback(self._failed)

    def cut(self) -> None:
        """
        End it, at once.
        """
        if not self.when_lost.called:
            # Over TLS, what is lost cannot be cut off any more.
            self._protocol.transport.abortConnection()

    def _failed(self, failure: Failure) -> Failure:
        if failure.check(CancelledError):
            return failure
        if failure.check(TimeoutError):
            self.cut()
            problem = f"no answer for {self._timeout:g} s"
            return Failure(JournalFailed(self._name, problem, uncertain=True))
        if failure.check(ResponseError):
            return Failure(Refused(self._name, explain(str(failure.value))))
        return Failure(JournalFailed(self._name, self._lost(), uncertain=True))

    def _lost(self) -> str:
        return f"the connection is lost{self._protocol.why_lost}"


async def connect(server: Server, *, timeout: float, reactor: IReactorTime) -> Connection:
    """
    Connect to a server, or to the one that is the master now, by what its sentinels say.

    :param timeout: how long each step may take, in seconds.
    :raises JournalFailed: where that cannot be.
    """
    address = server.addresses[0]
    if server.service is not None:
        address = await _ask_sentinels(server, timeout, reactor)
    connection = await _open(server, address, timeout, reactor)
    try:
        if server.password is not None:
            user = [] if server.username is None else [server.username]
            await connection.ask("AUTH", *user, server.password)
        if server.database:
            await connection.ask("SELECT", server.database)
        role = await connection.ask("ROLE")
        if role[0] != b"master":
            raise JournalFailed(
                server.name, f"is a {role[0].decode()}, and takes no updates; name its master"
            )
    except BaseException:
        connection.cut()
        raise
    return connection


async def _ask_sentinels(server: Server, timeout: float, reactor: IReactorTime) -> Address:
    problem = "no sentinel answers"
    for address in server.addresses:
        try:
            # They have passwords of their own, if any.
            connection = await _open(server, address, timeout, reactor)
            try:
                found = await connection.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", server.service or "")
            finally:
                connection.cut()
        except JournalFailed as error:
            problem = error.problem
            continue
        if found is not None:
            host, port = found
            return Address(host.decode(), int(port))
        problem = f"the sentinels know no {server.service}"
    raise JournalFailed(server.name, problem)


async def _open(server: Server, address: Address, timeout: float, reactor: IReactorTime) -> Connection:
    endpoint = _endpoint(server, address, timeout, reactor)
    try:
        protocol = await endpoint.connect(_Protocols())
    except CancelledError:
        raise
    except Exception as error:
        where = address.path or f"{address.host}:{address.port}"
        said = str(error).strip().rstrip(".")
        problem = f"cannot connect to {where}: {said}; see whether it runs there"
        raise JournalFailed(server.name, " ".join(problem.split())) from None
    return Connection(protocol, server.name, timeout, reactor)


def _endpoint(
    server: Server, address: Address, timeout: float, reactor: IReactorTime
) -> IStreamClientEndpoint:
    if address.path is not None:
        return UNIXClientEndpoint(reactor, address.path, timeout=timeout)
    endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, address.host, address.port, timeout=timeout)
    if server.tls:
        endpoint = wrapClientTLS(optionsForClientTLS(address.host), endpoint)
    return endpoint


def explain(said: str) -> str:
    """
    Say what Redis means, and what to do.
    """
    said = said.strip()
    for beginning, advice in _ADVICE.items():
        if said.removeprefix("ERR ").startswith(beginning) or beginning in said.partition(":")[2]:
            return f"{advice} ({said})"
    return said


_MORE_RIGHTS = "this user may not do that; docs/journals.rst has the rights that it needs"

_ADVICE = {
    "OOM": "it has no memory left; raise its maxmemory, or lower the journal's bounds",
    "READONLY": "it is a replica now, and takes no updates",
    "MISCONF": "it cannot save to its disk, and takes no updates; see its log",
    "NOAUTH": "it wants a password; put one into the URL",
    "WRONGPASS": "it does not know this user with this password; see the URL",
    "NOPERM": _MORE_RIGHTS,
    "The user executing the script": _MORE_RIGHTS,
    "LOADING": "it is still reading its data from the disk",
    "NOREPLICAS": "it has too few replicas, and takes no updates",
    "UNBLOCKED": "it became a replica",
}
