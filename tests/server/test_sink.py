"""
Which sink a request gets. What they do is tested with the channel, over all of them.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.interfaces import IPushProducer
from twisted.protocols.policies import WrappingFactory
from twisted.web.http import HTTPChannel, Request
from twisted.web.server import Request as ServerRequest
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from tests.fakes import Client, Wire
from txsse import SSEChannel, SSEResource
from txsse.server.detached import DetachedSink
from txsse.server.http2 import Http2Sink
from txsse.server.sink import DirectSink, RequestSink


def sink_of(wire: Wire, site: Site | None = None, **options: Any) -> tuple[object, Client]:
    channels: list[SSEChannel] = []
    resource = SSEResource(channels.append, upgrader=wire.upgrader(**options))
    if site is not None:
        site.resource = resource
        client = Client(wire, site)
    else:
        client = wire.connect(resource)
    client.request()
    return channels[0]._sink, client


class ChoiceTests:
    def test_each_way(self, wire: Wire) -> None:
        """
        Plain HTTP/1.1 goes straight unless that is switched off; all else goes through the request.
        """
        sink, client = sink_of(wire)
        kinds = {
            "direct": DirectSink,
            "detached": DetachedSink,
            "request": RequestSink,
            "http10": RequestSink,
            "http2": Http2Sink,
        }
        assert type(sink) is kinds[wire.kind]
        client.disconnect(clean=False)

    def test_request_with_a_way_of_its_own(self, plain: Wire) -> None:
        """
        A subclass that overrides ``write`` gets to see every frame.
        """
        seen: list[bytes] = []

        class Watching(ServerRequest):
            def write(self, data: bytes) -> None:
                seen.append(data)
                super().write(data)

        site = Site(None, requestFactory=Watching, reactor=plain.reactor, timeout=None)
        sink, client = sink_of(plain, site)
        assert type(sink) is RequestSink
        sink.write(b"data: x\n\n")
        assert seen == [b"", b"data: x\n\n"]
        client.disconnect()

    def test_request_instance_that_was_patched(self, plain: Wire) -> None:
        """
        So does an instance.
        """

        class Patched(ServerRequest):
            def process(self) -> None:
                self.write = super().write
                super().process()

        site = Site(None, requestFactory=Patched, reactor=plain.reactor, timeout=None)
        sink, client = sink_of(plain, site)
        assert type(sink) is RequestSink
        client.disconnect()

    def test_channel_of_another_class(self, plain: Wire) -> None:
        """
        A subclass of ``HTTPChannel`` may write in a way of its own, and is not bypassed either.
        """

        class Own(HTTPChannel):
            pass

        site = Site(None, reactor=plain.reactor, timeout=None)
        site.protocol = Own
        sink, client = sink_of(plain, site)
        assert type(sink) is RequestSink
        client.disconnect()

    def test_request_without_a_site(self, plain: Wire) -> None:
        """
        A request of ``twisted.web.http`` itself goes straight like one of ``twisted.web.server``.
        """
        channels: list[SSEChannel] = []

        class Bare(Request):
            def process(self) -> None:
                channels.append(plain.upgrader().upgrade(self))

        site = Site(None, requestFactory=Bare, reactor=plain.reactor, timeout=None)
        client = Client(plain, site).request()
        assert type(channels[0]._sink) is DirectSink
        channels[0].send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        client.disconnect()

    def test_wrapped_transport(self, plain: Wire) -> None:
        """
        What stands between the protocol and the socket, as TLS does, is not bypassed.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader())
        site = Site(resource, reactor=plain.reactor, timeout=None)
        client = Client(plain, WrappingFactory(site))  # type: ignore[arg-type]
        client.request()
        assert type(channels[0]._sink) is RequestSink
        channels[0].send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        client.disconnect()


class RequestSinkTests:
    def test_poke(self, plain: Wire) -> None:
        """
        Nothing happens: the transport tells by itself.
        """
        sink, client = sink_of(plain)
        assert isinstance(sink, RequestSink)
        sink.poke()
        client.pump()
        assert client.body == b""
        client.disconnect()

    def test_is_a_producer(self, wire: Wire) -> None:
        """
        It says so, for transports that look.
        """
        sink, client = sink_of(wire)
        assert verifyObject(IPushProducer, sink)
        client.disconnect(clean=False)

    def test_resumed_after_the_end(self, plain: Wire) -> None:
        """
        A transport that resumes it late finds nobody to tell.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader())
        client = plain.connect(resource).request()
        sink = channels[0]._sink
        client.disconnect()
        assert isinstance(sink, RequestSink)
        sink.resumeProducing()
        assert not sink.blocked


class DirectSinkTests:
    def test_access_log(self, plain: Wire) -> None:
        """
        The size of the response is what the client got, as it would be through the request.
        """
        sizes: dict[bool, int] = {}
        for direct in (True, False):
            channels: list[SSEChannel] = []
            resource = SSEResource(channels.append, upgrader=plain.upgrader(direct=direct))
            client = plain.connect(resource)
            logged: list[Request] = []
            client.protocol._channel.factory.log = logged.append
            client.request()
            channels[0].send("some text")
            channels[0].close()
            client.pump()
            sizes[direct] = logged[0].sentLength
            assert logged[0].sentLength == len(client.body)
        assert sizes[True] == sizes[False]

    def test_somebody_else_finished_the_response(self, plain: Wire) -> None:
        """
        The sink keeps away from the next response on the same connection.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader())
        client = plain.connect(resource).request()
        sink = channels[0]._sink
        channels[0].request.unregisterProducer()
        channels[0].request.finish()
        client.pump()
        client.reset_response()
        with pytest.raises(RuntimeError, match="after Request"):
            sink.write(b"data: not for you\n\n")
        client.pump()
        assert client.raw == b""
        client.disconnect()
