"""
Tests of the access to Twisted's HTTP/1 channels, with Twisted as expected and with private names missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.web import http
from twisted.web.http_headers import Headers
from twisted.web.resource import EncodingResourceWrapper
from twisted.web.server import GzipEncoderFactory
from twisted.web.server import Request as ServerRequest

from tests.fakes import Client, Wire
from tests.processes import finish, python
from txsse import SSEChannel, SSEResource
from txsse._twisted.http import (
    channel_of,
    forget_encoder,
    head_of,
    is_negotiating,
    is_sole_request,
    negotiating_protocol,
    producers_of,
    read_ahead,
    sent_ahead,
    set_reader,
    waits_for_client,
)
from txsse.server.sinks.detached import DetachedSink
from txsse.server.sinks.direct import DirectSink
from txsse.server.sinks.request import RequestSink
from txsse.web.bounded_site import BoundedSite

# Twisted replaces the module by a proxy for deprecated names; the names are in the module inside it.
WITHOUT = """
import sys
from twisted.web import http
vars(object.__getattribute__(http, "_module")).pop("_GenericHTTPChannelProtocol")
import txsse, txsse.tap, txsse.web.bounded_site
print(txsse._twisted.http.negotiating_protocol())
"""


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """
    Make Twisted lack its class for connections that negotiate HTTP/1 or HTTP/2.
    """
    negotiating_protocol.cache_clear()
    # Twisted itself still finds the class, in its own module.
    monkeypatch.setattr("txsse._twisted.http.http", SimpleNamespace())
    yield
    negotiating_protocol.cache_clear()


def serve(wire: Wire, channels: list[SSEChannel]) -> Client:
    resource = SSEResource(channels.append, upgrader=wire.upgrader(keep_request=False))
    site = BoundedSite(resource, reactor=wire.reactor, max_body=1000, request_timeout=10.0)
    site.timeOut = None
    site.log = lambda request: None  # type: ignore[method-assign]
    assert b"http/1.1" in site.acceptableProtocols()
    known = negotiating_protocol() is not None
    assert (b"h2" in site.acceptableProtocols()) is (known and http.H2_ENABLED)
    return Client(wire, site)


class NegotiatingProtocolTests:
    def test_class_is_found(self) -> None:
        """
        The class for connections that negotiate HTTP/1 or HTTP/2 is found in this version of Twisted.
        """
        made = http._GenericHTTPChannelProtocol(http.HTTPChannel())
        assert negotiating_protocol() is http._GenericHTTPChannelProtocol
        assert is_negotiating(made)
        assert isinstance(channel_of(made), http.HTTPChannel)
        assert not is_negotiating(object())

    @pytest.mark.process
    def test_import(self) -> None:
        """
        Importing txsse works with a Twisted that lacks the class for negotiating connections.
        """
        ran = finish(python("-c", WITHOUT))
        assert (ran.stdout, ran.stderr) == ("None\n", "")

    def test_service(self, plain: Wire) -> None:
        """
        Connections of a BoundedSite negotiate their protocol, and its streams are detached from their
        requests.
        """
        channels: list[SSEChannel] = []
        client = serve(plain, channels).request()
        assert isinstance(channels[0].sink, DetachedSink)
        client.disconnect()

    def test_service_without(self, plain: Wire, lacking: None) -> None:
        """
        Without Twisted's class for negotiating connections, BoundedSite uses HTTP/1 only, and streams keep
        their requests.
        """
        channels: list[SSEChannel] = []
        client = serve(plain, channels)
        client.request()
        (channel,) = channels
        channel.send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        assert isinstance(channel.sink, DirectSink)
        channel.close()
        client.pump()
        assert client.ended
        client.request()
        assert len(channels) == 2
        assert isinstance(channels[1].sink, DirectSink)
        client.disconnect()
        assert not channels[1].is_open


class Channel:
    """
    An HTTP/1 channel that has only the given attributes.
    """

    def __init__(self, **names: Any) -> None:
        vars(self).update(names)


class ChannelTests:
    def test_head(self) -> None:
        """
        The head of a request is known only if all of its private names exist.
        """
        names = {"_command": b"GET", "_path": b"/", "_version": b"HTTP/1.1"}
        assert head_of(Channel(**names)) == (b"GET", b"/", b"HTTP/1.1")
        for name in names:
            assert head_of(Channel(**{key: names[key] for key in names if key != name})) is None

    def test_sent_ahead(self) -> None:
        """
        Pipelined bytes are counted while a request is being answered; if a private name is missing, they
        count as 0.
        """
        early: list[bytes] = [b"GET", b" /"]
        channel: Any = Channel(_dataBuffer=early, _handlingRequest=True)
        assert sent_ahead(channel) is early
        assert read_ahead(channel) == 5
        for names in ({"_dataBuffer": early}, {"_handlingRequest": True}, {"_dataBuffer": b""}):
            channel = Channel(**names)
            assert read_ahead(channel) == 0
        assert sent_ahead(Channel(_dataBuffer=b"")) is None

    def test_reader(self) -> None:
        """
        Redirecting pipelined bytes sets a method on the channel's instance, and removes it again.
        """
        channel = Channel()
        set_reader(channel, print)
        assert vars(channel) == {"rawDataReceived": print}
        set_reader(channel, None)
        assert vars(channel) == {}

    def test_full_send_buffer(self) -> None:
        """
        Without the private name for a full send buffer, the buffer counts as not full.
        """
        assert waits_for_client(Channel(_waitingForTransport=True))
        assert not waits_for_client(Channel())

    def test_sole_request(self) -> None:
        """
        Without the private list of requests, a request does not count as the only one.
        """
        request: Any = object()
        assert is_sole_request(Channel(requests=[request]), request)
        assert not is_sole_request(Channel(requests=[request, request]), request)
        assert not is_sole_request(Channel(), request)


class EncoderTests:
    def test_gzip(self, plain: Wire) -> None:
        """
        Events of a response with a gzip encoder are sent uncompressed.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader())
        client = plain.connect(EncodingResourceWrapper(resource, [GzipEncoderFactory()]))
        client.request(headers={"Accept-Encoding": "gzip"})
        channels[0].send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        assert "content-encoding" not in client.headers
        assert isinstance(channels[0].sink, DirectSink)
        client.disconnect()

    def test_name_is_missing(self) -> None:
        """
        Without the private name of the encoder, a response with a content coding is written by the base
        class.
        """

        class Renamed(ServerRequest):
            def __getattribute__(self, name: str) -> Any:
                if name == "_encoder":
                    raise AttributeError(name)
                return super().__getattribute__(name)

        request: Any = Renamed.__new__(Renamed)
        request.responseHeaders = Headers()
        assert not forget_encoder(request)
        request.responseHeaders.setRawHeaders(b"Content-Encoding", [b"gzip"])
        assert forget_encoder(request)
        assert request.write.func is http.Request.write
        assert request.finish.func is http.Request.finish
        assert not forget_encoder(http.Request.__new__(http.Request))


class PipeliningTests:
    def test_not_as_expected(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the pipelined bytes cannot be found, Twisted buffers and limits them itself.
        """
        monkeypatch.setattr("txsse.web.pipelining.sent_ahead", lambda channel: None)
        plain.kind = "request"
        channels: list[SSEChannel] = []
        client = plain.connect(SSEResource(channels.append, upgrader=plain.upgrader()))
        client.request()
        client.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert isinstance(channels[0].sink, RequestSink)
        channels[0].close()
        client.pump()
        assert len(channels) == 2
        client.disconnect()


class ProducerTests:
    @pytest.mark.parametrize(
        ("channel", "found"),
        [
            (
                SimpleNamespace(requests=[SimpleNamespace(producer="a"), SimpleNamespace(producer=None)]),
                ["a"],
            ),
            (SimpleNamespace(streams={1: SimpleNamespace(producer="a"), 3: SimpleNamespace()}), ["a"]),
            (SimpleNamespace(streams=None), []),
            (None, []),
        ],
    )
    def test_producers(self, channel: Any, found: list[str]) -> None:
        """
        The producers of both kinds of channels are found; if Twisted's objects are not as expected, none is.
        """
        assert producers_of(channel) == found
