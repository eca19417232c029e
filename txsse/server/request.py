"""
The data that a channel keeps of the request that it was made from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import AnyStr, Protocol

from twisted.internet.interfaces import IAddress
from twisted.web.http import Request, parse_qs

__all__ = ["KeptHeaders", "StreamRequest"]

# The headers that formatters of access logs read.
_LOGGED = ("referer", "user-agent", "x-forwarded-for")


class _HasPeer(Protocol):
    def getPeer(self) -> IAddress: ...  # noqa: N802


class KeptHeaders:
    """
    The names of the request headers that the channels of an upgrader keep, including those for access logs.

    :param names: further names, in any case.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = frozenset(name.lower().encode("ascii") for name in (*_LOGGED, *names))


class StreamRequest:
    """
    The data that a channel keeps of its request, the same on every transport.

    Its names are those of :class:`twisted.web.http.Request`.

    :ivar method: the method.
    :ivar uri: the URI, with the query.
    :ivar clientproto: the version of HTTP, such as ``b"HTTP/1.1"``.
    :ivar original: Twisted's request, if the option ``keep_request`` of :class:`txsse.Upgrader` keeps it;
        ``None`` otherwise.
    """

    __slots__ = ("_headers", "_kept", "_peer", "clientproto", "method", "original", "sentLength", "uri")

    # Access logs read this, and sentLength.
    code = 200

    def __init__(self, request: Request, kept: KeptHeaders, *, keep_request: bool) -> None:
        self.method: bytes = request.method
        self.uri: bytes = request.uri
        self.clientproto: bytes = request.clientproto
        self.sentLength: int = request.sentLength
        self.original: Request | None = request if keep_request else None
        self._kept = kept
        self._headers = tuple(
            (name.lower(), values[-1])
            for name, values in request.requestHeaders.getAllRawHeaders()
            if name.lower() in kept.names
        )
        self._peer: _HasPeer | IAddress = request.client

    def detach(self, transport: _HasPeer) -> None:
        """
        Get the client's address from the transport from now on, which saves 200 bytes per stream.
        """
        self._peer = transport

    @property
    def path(self) -> bytes:
        """
        The path, without the query.
        """
        return self.uri.partition(b"?")[0]

    @property
    def args(self) -> dict[bytes, list[bytes]]:
        """
        The parameters of the query; those of a form in the body are in ``original.args``.
        """
        args: dict[bytes, list[bytes]] = parse_qs(self.uri.partition(b"?")[2], True)
        return args

    @property
    def client(self) -> IAddress:
        """
        The address of the client, or of the proxy between.
        """
        return self.getClientAddress()

    def getClientAddress(self) -> IAddress:
        """
        Return the address of the client, or of the proxy between.
        """
        peer = self._peer
        return peer.getPeer() if hasattr(peer, "getPeer") else peer

    def getHeader(self, name: AnyStr) -> AnyStr | None:
        """
        Return the last value of a header field that was kept.

        :param name: the name of the field, in any case.
        :returns: the value, of the type of the name; ``None`` if the request had no such field.
        :raises LookupError: for a field that the upgrader does not keep, whether or not the request had it.
        """
        wanted = (name.encode() if isinstance(name, str) else name).lower()
        if wanted not in self._kept.names:
            shown = wanted.decode("utf-8", "replace")
            raise LookupError(
                f"the header field {shown} was not kept: pass Upgrader(keep_headers=[{shown!r}]), or read it "
                "before the upgrade"
            )
        value = dict(self._headers).get(wanted)
        if value is None or isinstance(name, bytes):
            return value
        return value.decode("utf-8", "replace")
