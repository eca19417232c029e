"""
Tests of the access to Twisted's TCP transports, with Twisted as expected and with private names missing.
"""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import Client, Wire
from txsse import SSEChannel, SSEResource
from txsse._twisted.tcp import plain_transport, protocol_of, raw_socket, send_now, set_protocol, socket_of


@pytest.fixture
def client(plain: Wire) -> Any:
    channels: list[SSEChannel] = []
    made = plain.connect(SSEResource(channels.append, upgrader=plain.upgrader()))
    yield made
    Client.disconnect(made)


class PlainTransportTests:
    def test_as_expected(self, client: Any) -> None:
        """
        A transport of Twisted on a plain socket is recognized as plain.
        """
        transport = client.transport
        assert plain_transport(SimpleNamespace(transport=transport)) is transport
        assert raw_socket(transport) is client.socket
        assert protocol_of(transport) is client.protocol
        set_protocol(transport, transport.protocol)

    @pytest.mark.parametrize("name", ["_tempDataBuffer", "socket", "protocol"])
    def test_without(self, client: Any, name: str) -> None:
        """
        A transport that lacks a private name does not count as plain.
        """
        found = vars(client.transport).pop(name)
        assert plain_transport(SimpleNamespace(transport=client.transport)) is None
        setattr(client.transport, name, found)

    @pytest.mark.parametrize("buffer", [None, bytearray(b"x")])
    def test_other_buffer(self, client: Any, buffer: object) -> None:
        """
        A transport whose buffer has another type does not count as plain.
        """
        client.transport.dataBuffer = buffer
        assert plain_transport(SimpleNamespace(transport=client.transport)) is None
        del client.transport.dataBuffer

    def test_other_kind(self) -> None:
        """
        A transport of another class, and a channel without a transport, do not count as plain.
        """
        assert plain_transport(SimpleNamespace(transport=object())) is None
        assert plain_transport(object()) is None


class SendNowTests:
    def test_buffered_bytes_first(self, client: Any) -> None:
        """
        Bytes are not sent before buffered ones; errors of the socket are reported, and the transport sends
        the rest.
        """
        errors: list[OSError] = []

        def note(_: socket.socket, error: OSError) -> None:
            errors.append(error)

        transport = client.transport
        assert send_now(transport, b"abc", 3, note)
        assert client.socket.outgoing == b"abc"
        client.stop_reading()
        assert send_now(transport, b"def", 3, note)
        assert len(errors) == 1
        assert not send_now(transport, b"ghi", 3, note)
        client.socket.room = None
        client.write_out()
        assert client.socket.outgoing == b"abcdef"
        client.socket.outgoing = b""


class SocketOfTests:
    def test_layers(self) -> None:
        """
        The socket is found below TLS and HTTP/2; without one, or with a layer without attributes, no socket
        is returned.
        """
        with socket.socket() as found:
            below = SimpleNamespace(transport=SimpleNamespace(transport=SimpleNamespace(socket=found)))
            request: Any = SimpleNamespace(channel=SimpleNamespace(_conn=below))
            assert socket_of(request) is found
        for channel in (None, object(), SimpleNamespace(socket="no socket")):
            request = SimpleNamespace(channel=channel)
            assert socket_of(request) is None
