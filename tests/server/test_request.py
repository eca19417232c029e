"""
Tests of the data that a channel keeps of its request.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from tests.fakes import Wire
from txsse import SSEChannel, SSEResource, StreamRequest, Upgrader
from txsse.testing import MemoryPair


def open_channel(wire: Wire, path: str = "/", headers: dict[str, str] | None = None, **options: Any) -> Any:
    channels: list[SSEChannel] = []
    client = wire.connect(SSEResource(channels.append, upgrader=wire.upgrader(**options)))
    client.request(path, headers=headers)
    return channels[0], client


class StreamRequestTests:
    def test_same_on_every_transport(self, wire: Wire) -> None:
        """
        A channel's request has the method, the URI, its path and arguments, and the address of the client.
        """
        channel, client = open_channel(wire, "/a?x=1&x=2&y=")
        request = channel.request
        assert type(request) is StreamRequest
        assert (request.method, request.uri, request.path) == (b"GET", b"/a?x=1&x=2&y=", b"/a")
        assert request.args == {b"x": [b"1", b"2"], b"y": [b""]}
        assert request.client == request.getClientAddress() == IPv4Address("TCP", "127.0.0.1", 50000)
        assert "b'/a' of IPv4Address" in repr(channel)
        client.disconnect()

    def test_kept_headers(self, wire: Wire) -> None:
        """
        A channel's request returns the last value of a kept header field, or ``None``, as str or bytes like
        its name.
        """
        headers = {"User-Agent": "me", "X-Name": "caf\u00e9".encode().decode("latin-1")}
        channel, client = open_channel(wire, headers=headers, keep_headers=["X-Name", "X-Missing"])
        request = channel.request
        assert (request.getHeader("user-agent"), request.getHeader(b"User-Agent")) == ("me", b"me")
        assert (request.getHeader("X-NAME"), request.getHeader(b"x-name")) == (
            "caf\u00e9",
            "caf\u00e9".encode(),
        )
        assert request.getHeader("X-Missing") is request.getHeader(b"Referer") is None
        client.disconnect()

    @pytest.mark.parametrize("name", ["Cookie", b"Cookie", "X-\u20ac"])
    def test_header_that_was_not_kept(self, wire: Wire, name: Any) -> None:
        """
        Reading a header field that was not kept raises an error that names the option, even if the request
        had it.
        """
        channel, client = open_channel(wire, headers={"Cookie": "secret"})
        with pytest.raises(LookupError, match=r"was not kept: pass Upgrader\(keep_headers=\['") as caught:
            channel.request.getHeader(name)
        assert "secret" not in str(caught.value)
        client.disconnect()

    def test_original(self, wire: Wire) -> None:
        """
        ``original`` is Twisted's request if and only if keep_request is set.
        """
        for keep in (True, False):
            channel, client = open_channel(wire, keep_request=keep)
            assert (channel.request.original is not None) is keep
            if keep:
                assert channel.request.original.uri == channel.request.uri
            client.disconnect()

    def test_memory_pair(self) -> None:
        """
        A channel of a MemoryPair has the same request data as one over a network.
        """
        channels: list[SSEChannel] = []
        clock = Clock()
        resource = SSEResource(channels.append, upgrader=Upgrader(reactor=clock, keep_headers=["X-Name"]))
        MemoryPair(resource, "http://example.org/a?b=c", clock=clock, headers={"X-Name": "me"})
        assert (channels[0].request.path, channels[0].request.args) == (b"/a", {b"b": [b"c"]})
        assert channels[0].request.getHeader("x-name") == "me"
