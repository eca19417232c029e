"""
A connection to a Redis server. Only this module uses the library for the Redis protocol, txredisapi.
"""

from __future__ import annotations

from typing import TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from txsse._extras import needs
from txsse.errors import JournalFailed
from txsse.journal.redis.replies import Argument, Reply, as_bytes, as_list, malformed
from txsse.journal.redis.url import Address, Server

with needs("redis", "a journal in Redis"):
    import hiredis as _hiredis  # noqa: F401
    from twisted.internet.ssl import optionsForClientTLS
    from txredisapi import ConnectionError as LostConnection
    from txredisapi import HiredisProtocol, ResponseError

__all__ = ["Connection", "Refused", "connect", "explain"]

T = TypeVar("T")


class _Protocol(HiredisProtocol):  # type: ignore[misc]
    """
    The library's protocol, without its conversions of arguments and replies.

    :ivar why_lost: the reason of a TLS failure, for errors.
    """

    why_lost = ""

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)

    def tryConvertData(self, data: T) -> T:  # noqa: N802
        """
        Return a reply unchanged. The library's method would examine each string of a page, and change none.
        """
        return data

    def _build_command(self, *arguments: Argument, **_: object) -> bytes:
        # The library's method tests the type of each argument several times.
        parts = [b"*%d\r\n" % len(arguments)]
        for argument in arguments:
            value = argument if isinstance(argument, bytes) else _encode(str(argument))
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
        return b"".join(parts)

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """
        Keep the reason why TLS rejected the peer.
        """
        reason = why.value.args[0] if why.value is not None and why.value.args else None
        if isinstance(reason, list) and reason:
            # OpenSSL's text is the last part of the last of its errors.
            self.why_lost = f": {reason[-1][-1]}"
        super().connectionLost(why)


def _encode(text: str) -> bytes:
    # A client may request any text as a topic, even one with lone surrogates, which no update can have.
    return text.encode("utf-8", "surrogatepass")


class _Protocols(Factory):
    noisy = False
    protocol = _Protocol


class Refused(JournalFailed):
    """
    The server replied to a command with an error. Other commands may work.
    """


class Connection:
    """
    One connection. Its commands fail with :exc:`~txsse.errors.JournalFailed`, which says what to do.

    :param name: the name of the server, for errors.
    :param timeout: how long a reply may take, in seconds.
    :ivar when_lost: a Deferred that fires when the connection is lost.
    """

    def __init__(self, protocol: _Protocol, name: str, timeout: float, reactor: IReactorTime) -> None:
        self._protocol = protocol
        self._name = name
        self._timeout = timeout
        self._reactor = reactor
        self.when_lost: Deferred[object] = protocol.whenDisconnected()

    def ask(self, *command: Argument) -> Deferred[Reply]:
        """
        Send a command.

        :returns: a Deferred that fires with the reply. If the reply takes too long, the connection is
            aborted, because a late reply could not be distinguished from the reply to the next command.
        """
        try:
            reply: Deferred[Reply] = self._protocol.execute_command(*command)
        except LostConnection:
            return fail(JournalFailed(self._name, self._lost()))
        reply.addTimeout(self._timeout, self._reactor)
        return reply.addErrback(self._failed)

    def cut(self) -> None:
        """
        Abort the connection, if it is not lost already.
        """
        if not self.when_lost.called:
            # A TLS transport must not be aborted after it is lost.
            self._protocol.transport.abortConnection()

    def _failed(self, failure: Failure) -> Failure:
        if failure.check(CancelledError):
            return failure
        if failure.check(TimeoutError):
            self.cut()
            problem = f"no reply for {self._timeout:g} s"
            return Failure(JournalFailed(self._name, problem, uncertain=True))
        if failure.check(ResponseError):
            return Failure(Refused(self._name, explain(str(failure.value))))
        return Failure(JournalFailed(self._name, self._lost(), uncertain=True))

    def _lost(self) -> str:
        return f"the connection is lost{self._protocol.why_lost}"


async def connect(server: Server, *, timeout: float, reactor: IReactorTime) -> Connection:
    """
    Connect to a server, or to the current master as named by its sentinels.

    :param timeout: how long each step may take, in seconds.
    :raises JournalFailed: if this fails, or if the server is not a master.
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
        role, *_ = as_list(await connection.ask("ROLE"), minimum=1)
        if role != b"master":
            kind = as_bytes(role).decode("utf-8", "replace")
            raise JournalFailed(server.name, f"is a {kind} and accepts no updates; use the URL of its master")
    except BaseException:
        connection.cut()
        raise
    return connection


async def _ask_sentinels(server: Server, timeout: float, reactor: IReactorTime) -> Address:
    problem = "no sentinel replies"
    for address in server.addresses:
        try:
            # The URL's password is the server's, so it is not sent to the sentinels.
            connection = await _open(server, address, timeout, reactor)
            try:
                found = await connection.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", server.service or "")
            finally:
                connection.cut()
        except JournalFailed as error:
            problem = error.problem
            continue
        if found is not None:
            return _address(found)
        problem = f"the sentinels do not know a service {server.service}"
    raise JournalFailed(server.name, problem)


def _address(reply: Reply) -> Address:
    host, port = (as_bytes(each) for each in as_list(reply, 2))
    try:
        return Address(host.decode(), int(port))
    except ValueError:
        raise malformed("a host and a port", reply) from None


async def _open(server: Server, address: Address, timeout: float, reactor: IReactorTime) -> Connection:
    endpoint = _endpoint(server, address, timeout, reactor)
    try:
        protocol = await endpoint.connect(_Protocols())
    except CancelledError:
        raise
    except Exception as error:
        where = address.path or f"{address.host}:{address.port}"
        said = str(error).strip().rstrip(".")
        problem = f"cannot connect to {where}: {said}; check that the server runs there"
        raise JournalFailed(server.name, " ".join(problem.split())) from None
    return Connection(cast(_Protocol, protocol), server.name, timeout, reactor)


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
    Return a text for the operator: what an error of Redis means, how to fix it, and its original message.
    """
    said = said.strip()
    for beginning, advice in _ADVICE.items():
        if said.removeprefix("ERR ").startswith(beginning) or beginning in said.partition(":")[2]:
            return f"{advice} ({said})"
    return said


_MORE_RIGHTS = "this user has no permission for a command; docs/journals.rst lists the required permissions"

_ADVICE = {
    "OOM": "the server has no memory left; raise its maxmemory, or lower the journal's limits",
    "READONLY": "the server is now a replica and accepts no updates",
    "MISCONF": "the server cannot save to its disk and accepts no updates; see its log",
    "NOAUTH": "the server requires a password; add it to the URL",
    "WRONGPASS": "the server rejects this user or password; correct the URL",
    "NOPERM": _MORE_RIGHTS,
    "The user executing the script": _MORE_RIGHTS,
    "LOADING": "the server is still loading its data from the disk",
    "NOREPLICAS": "the server has too few replicas and accepts no updates",
    "UNBLOCKED": "the server became a replica",
}
