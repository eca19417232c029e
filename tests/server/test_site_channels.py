"""
Tests of finding the channels on the connections of a site.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.fakes import Client, Wire
from txsse import SSEChannel, SSEResource
from txsse.server.site_channels import channels_on
from txsse.web.site import ClosingSite


class Later(Resource):
    """
    A resource that does not answer; it registers a producer of its own if ``/produced`` is requested.
    """

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        if request.path == b"/produced":
            request.registerProducer(self, True)
        return NOT_DONE_YET

    def pauseProducing(self) -> None:
        pass

    resumeProducing = stopProducing = pauseProducing


class World:
    def __init__(self, wire: Wire) -> None:
        self.opened: list[SSEChannel] = []
        root = Resource()
        root.putChild(b"events", SSEResource(self.opened.append, upgrader=wire.upgrader()))
        for path in (b"produced", b"later"):
            root.putChild(path, Later())
        self.site = ClosingSite(root, reactor=wire.reactor)
        self.site.timeOut = None
        self.site.log = lambda request: None  # type: ignore[method-assign]
        self.clients: list[Client] = []
        self._wire = wire

    def ask(self, path: str) -> Client:
        self.clients.append(self._wire.connect_to(self.site).request(path))
        return self.clients[-1]


@pytest.fixture
def world(wire: Wire) -> Iterator[World]:
    world = World(wire)
    yield world
    for client in world.clients:
        Client.disconnect(client, clean=False)


class FindingTests:
    def test_open_channels(self, world: World) -> None:
        """
        Over each transport, the channels of a site's connections are found, and nothing else.
        """
        for path in ("/events", "/later", "/produced", "/events"):
            world.ask(path)
        found = channels_on(world.site)
        assert len(found) == 2 and set(found) == set(world.opened)

    def test_closed_channels(self, world: World) -> None:
        """
        A channel that has closed is not found.
        """
        client = world.ask("/events")
        [channel] = channels_on(world.site)
        channel.close()
        client.pump()
        assert channels_on(world.site) == []

    def test_channel_of_a_slow_reader(self, world: World) -> None:
        """
        A channel that is closing, but whose client has not read everything, is found.
        """
        client = world.ask("/events")
        client.stop_reading()
        world.opened[0].send("x" * 200_000)
        world.opened[0].close()
        assert channels_on(world.site) == world.opened
        world.opened[0].abort()
        client.pump()
