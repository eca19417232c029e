"""
Limits of how many channels are open at once: in total, per client address, and per key of the application.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import cast
from weakref import WeakKeyDictionary

from twisted.web.http import Request
from twisted.web.server import Request as SiteRequest

from txsse._arguments import check_number, wrong_type
from txsse.server.negotiation import Accepted, Answer, refusal

__all__ = ["Limits", "address_key"]


class Limits:
    """
    Limits of how many channels are open at once.

    A request beyond the limit is refused: with 503 for the total, and with 429 for the limits per client.
    Both responses say in ``Retry-After`` when to try again. Browsers do not reconnect after either of them.

    :param channels: the most channels in total; ``None`` for no limit.
    :param per_address: the most channels of one client address. An IPv6 /64 counts as one address, since one
        household has a whole one. Behind a proxy all clients have the proxy's address, unless it sends the
        PROXY protocol and the endpoint is ``haproxy:...``: otherwise use ``key``, and return the client
        address that the proxy adds to the request.
    :param per_key: the most channels of one ``key``.
    :param key: called once with each request; returns a hashable key of the client, such as a user name or a
        token, or ``None`` for a client that is not counted.
    :param retry_after: when to try again, in seconds.
    :raises ValueError: for ``per_key`` without ``key`` or the reverse, and for limits below 1.
    """

    def __init__(
        self,
        *,
        channels: int | None = None,
        per_address: int | None = None,
        per_key: int | None = None,
        key: Callable[[SiteRequest], Hashable] | None = None,
        retry_after: float = 5.0,
    ) -> None:
        for name, limit in (("channels", channels), ("per_address", per_address), ("per_key", per_key)):
            if limit is None:
                continue
            check_number(name, limit, "a whole number", whole=True)
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, not {limit}")
        if (per_key is None) != (key is None):
            raise ValueError("per_key and key go together: a limit, and what is counted")
        if key is not None and not callable(key):
            raise wrong_type("key", key, "callable with a request")
        check_number("retry_after", retry_after, "a number of seconds")
        self._unlimited = channels is per_address is per_key is None
        self._channels = channels
        self._per_address = per_address
        self._per_key = per_key
        self._key = key
        # Retry-After has whole seconds only (RFC 9110).
        self._retry_after = b"%d" % max(1, round(retry_after))
        self._open = 0
        self._counts: Counter[Hashable] = Counter()
        # The keys of requests that are checked and not counted yet. Both steps must use the same key, even if
        # it
        # depends on the time or on a session.
        self._found: WeakKeyDictionary[Request, list[tuple[Hashable, int, str]]] = WeakKeyDictionary()

    def refusal(self, request: Request, accepted: Accepted) -> Answer | None:
        """
        Return why a request exceeds a limit; ``None`` if it exceeds none.
        """
        if self._unlimited:
            return None
        if self._channels is not None and self._open >= self._channels:
            return self._refuse(503, "the server has reached its limit of streams", accepted)
        for place, limit, whose in self._places(request):
            if self._counts[place] >= limit:
                return self._refuse(429, f"too many streams for {whose}: {limit} is the limit", accepted)
        return None

    def enter(self, request: Request) -> Callable[[], None] | None:
        """
        Count a channel.

        :returns: a function to call once, when the channel ends; ``None`` if nothing is counted.
        """
        if self._unlimited:
            return None
        self._open += 1
        places = tuple(place for place, _, _ in self._places(request))
        del self._found[request]
        self._counts.update(places)
        return partial(self._leave, places)

    def _leave(self, places: tuple[Hashable, ...]) -> None:
        self._open -= 1
        for place in places:
            self._counts[place] -= 1
            if not self._counts[place]:
                del self._counts[place]

    def _places(self, request: Request) -> list[tuple[Hashable, int, str]]:
        found = self._found.get(request)
        if found is None:
            found = self._found[request] = self._find_places(request)
        return found

    def _find_places(self, request: Request) -> list[tuple[Hashable, int, str]]:
        places: list[tuple[Hashable, int, str]] = []
        if self._per_address is not None:
            host = getattr(request.getClientAddress(), "host", None)
            # A UNIX socket has no client address: its peer is a proxy.
            if host is not None:
                places.append((("address", address_key(host)), self._per_address, "one address"))
        if self._per_key is not None and self._key is not None:
            key = self._key(cast(SiteRequest, request))
            if key is not None:
                places.append((("key", key), self._per_key, "one client"))
        return places

    def _refuse(self, status: int, reason: str, accepted: Accepted) -> Answer:
        return refusal(status, reason, [(b"Retry-After", self._retry_after), *accepted.cors])


def address_key(host: str) -> str:
    """
    Return the key that an address is counted by.

    It is the address itself for IPv4, also if it is written as IPv6, and the /64 for IPv6.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
