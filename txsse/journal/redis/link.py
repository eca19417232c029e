"""
A connection to Redis: the one place that knows its protocol's library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from txsse._extras import needs
from txsse.errors import JournalFailed

with needs("redis", "a journal in Redis"):
    import hiredis as _hiredis  # noqa: F401
    from twisted.internet.ssl import optionsForClientTLS
    from txredisapi import ConnectionError as LostConnection
    from txredisapi import HiredisProtocol, ResponseError

__all__ = ["Address", "Link", "Refused", "Server", "connect", "parse_url"]

_EXAMPLES = (
    "redis://localhost:6379/0, rediss://user:password@host, unix:///run/redis.sock?db=0, "
    "redis+sentinel://host1,host2:26379/mymaster/0"
)


@dataclass(frozen=True)
class Address:
    """
    Where one server is: a host with its port, or a socket's path.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None


@dataclass(frozen=True)
class Server:
    """
    A Redis, as a URL names it.

    :ivar name: the URL without its password.
    :ivar addresses: where it is; with a service, where its sentinels are.
    :ivar service: what the sentinels call it.
    :ivar tls: whether it speaks TLS.
    """

    name: str
    addresses: tuple[Address, ...]
    username: str | None = None
    password: str | None = None
    database: int = 0
    tls: bool = False
    service: str | None = None


def parse_url(url: str) -> Server:
    """
    Read a URL.

    :raises ValueError: for one that cannot be, with examples of those that can.
    """
    try:
        return _parse_url(url)
    except ValueError as error:
        # A password in it is nobody's business.
        raise ValueError(f"no URL of a Redis: {error}; one is written like {_EXAMPLES}") from None


def _parse_url(url: str) -> Server:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, colon, password = credentials.partition(":")
    server = Server(
        name=parts._replace(netloc=f"{username}@{hosts}" if username else hosts, query="").geturl(),
        addresses=(),
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
    )
    unknown = set(parse_qs(parts.query)) - {"db"}
    if unknown:
        raise ValueError(f"{min(unknown)} is no option")
    path = [unquote(each) for each in parts.path.split("/") if each]
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("the path of the socket is missing")
        address = Address(path=unquote(parts.path))
        return replace(server, addresses=(address,), database=_database(parts, []))
    if parts.scheme in ("redis", "rediss"):
        addresses = _addresses(hosts or "localhost", 6379)
        if len(addresses) > 1:
            raise ValueError("there is more than one host; sentinels are named by redis+sentinel://")
        return replace(
            server, addresses=addresses, database=_database(parts, path), tls=parts.scheme == "rediss"
        )
    if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
        if not path:
            raise ValueError("the name of the service is missing, behind the sentinels")
        return replace(
            server,
            addresses=_addresses(hosts, 26379),
            service=path[0],
            database=_database(parts, path[1:]),
            tls=parts.scheme.startswith("rediss"),
        )
    raise ValueError(f"{parts.scheme or 'nothing'} is no scheme of it")


def _addresses(hosts: str, default_port: int) -> tuple[Address, ...]:
    addresses = []
    for each in hosts.split(","):
        one = urlsplit(f"//{each}")
        if not one.hostname:
            raise ValueError("a host is missing")
        try:
            port = one.port or default_port
        except ValueError:
            # Python would say what stands there, which may be a piece of a password.
            raise ValueError("a port is no number") from None
        addresses.append(Address(one.hostname, port))
    return tuple(addresses)


def _database(parts: SplitResult, path: list[str]) -> int:
    found = [*path, *parse_qs(parts.query).get("db", [])] or ["0"]
    if len(found) > 1 or not (found[0].isascii() and found[0].isdigit()):
        raise ValueError("the database is a single number")
    return int(found[0])


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


class Link:
    """
    One connection. Every failure of it is a :exc:`~txsse.errors.JournalFailed` that says what to do.

    :param name: whose it is, for errors.
    :param timeout: how long a reply may take, in seconds.
    :ivar when_lost: fires when it is gone.
    """

    def __init__(self, protocol: Any, name: str, timeout: float, reactor: Any) -> None:
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


async def connect(server: Server, *, timeout: float, reactor: Any) -> Link:
    """
    Connect to a server, or to the one that is the master now, by what its sentinels say.

    :param timeout: how long each step may take, in seconds.
    :raises JournalFailed: where that cannot be.
    """
    address = server.addresses[0]
    if server.service is not None:
        address = await _ask_sentinels(server, timeout, reactor)
    link = await _open(server, address, timeout, reactor)
    try:
        if server.password is not None:
            user = [] if server.username is None else [server.username]
            await link.ask("AUTH", *user, server.password)
        if server.database:
            await link.ask("SELECT", server.database)
        role = await link.ask("ROLE")
        if role[0] != b"master":
            raise JournalFailed(
                server.name, f"is a {role[0].decode()}, and takes no updates; name its master"
            )
    except BaseException:
        link.cut()
        raise
    return link


async def _ask_sentinels(server: Server, timeout: float, reactor: Any) -> Address:
    problem = "no sentinel answers"
    for address in server.addresses:
        try:
            # They have passwords of their own, if any.
            link = await _open(server, address, timeout, reactor)
            try:
                found = await link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", server.service or "")
            finally:
                link.cut()
        except JournalFailed as error:
            problem = error.problem
            continue
        if found is not None:
            host, port = found
            return Address(host.decode(), int(port))
        problem = f"the sentinels know no {server.service}"
    raise JournalFailed(server.name, problem)


async def _open(server: Server, address: Address, timeout: float, reactor: Any) -> Link:
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
    return Link(protocol, server.name, timeout, reactor)


def _endpoint(server: Server, address: Address, timeout: float, reactor: Any) -> IStreamClientEndpoint:
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
