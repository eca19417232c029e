"""
The URL of a Redis.
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
