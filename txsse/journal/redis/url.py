"""
Parses the URL of a Redis server.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

__all__ = ["Address", "Server", "parse_url"]

_EXAMPLES = (
    "redis://localhost:6379/0, rediss://user:password@host, unix:///run/redis.sock?db=0, "
    "redis+sentinel://host1,host2:26379/mymaster/0"
)


@dataclass(frozen=True)
class Address:
    """
    The address of one server: a host and a port, or the path of a Unix socket.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None


@dataclass(frozen=True)
class Server:
    """
    A Redis server, as its URL describes it.

    :ivar name: the URL without its password, for errors.
    :ivar addresses: its address; for a service, the addresses of the sentinels.
    :ivar service: the name of the service by which the sentinels know it.
    :ivar tls: whether to connect with TLS.
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
    Parse a URL.

    :raises ValueError: if it is invalid. The message has examples of valid URLs.
    """
    try:
        return _parse_url(url)
    except ValueError as error:
        # The message must not contain the URL, which may have a password.
        raise ValueError(f"invalid URL of a Redis server: {error}; examples: {_EXAMPLES}") from None


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
        raise ValueError(f"unknown option {min(unknown)}")
    path = [unquote(each) for each in parts.path.split("/") if each]
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("the path of the socket is missing")
        address = Address(path=unquote(parts.path))
        return replace(server, addresses=(address,), database=_database(parts, []))
    if parts.scheme in ("redis", "rediss"):
        addresses = _addresses(hosts or "localhost", 6379)
        if len(addresses) > 1:
            raise ValueError("it has more than one host; for sentinels, use redis+sentinel://")
        return replace(
            server, addresses=addresses, database=_database(parts, path), tls=parts.scheme == "rediss"
        )
    if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
        if not path:
            raise ValueError("the name of the service is missing after the sentinels")
        return replace(
            server,
            addresses=_addresses(hosts, 26379),
            service=path[0],
            database=_database(parts, path[1:]),
            tls=parts.scheme.startswith("rediss"),
        )
    raise ValueError(f"unsupported scheme {parts.scheme!r}")


def _addresses(hosts: str, default_port: int) -> tuple[Address, ...]:
    addresses = []
    for each in hosts.split(","):
        one = urlsplit(f"//{each}")
        if not one.hostname:
            raise ValueError("a host is missing")
        try:
            port = one.port or default_port
        except ValueError:
            # Python's message contains the text of the port, which may be a part of a password.
            raise ValueError("a port is not a number") from None
        addresses.append(Address(one.hostname, port))
    return tuple(addresses)


def _database(parts: SplitResult, path: list[str]) -> int:
    found = [*path, *parse_qs(parts.query).get("db", [])] or ["0"]
    if len(found) > 1 or not (found[0].isascii() and found[0].isdigit()):
        raise ValueError("the database must be a single number")
    return int(found[0])
