"""
A world for tests of a site with limits: the site, its clients, and resources.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.fakes import Client, Wire
from txsse import SSEChannel, SSEResource, Upgrader
from txsse.web.bounded_site import BoundedSite
from txsse.web.responses import Branch

PAGE = b"p" * 30_000


class Page(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def render(self, request: Any) -> bytes:
        self.count += 1
        return PAGE


class Later(Resource):
    """
    A resource that keeps its requests, for a test to answer them.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Any) -> int:
        self.requests.append(request)
        return NOT_DONE_YET


class World:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.page = Page()
        self.later = Later()
        self.channels: list[SSEChannel] = []
        self.root = Branch("nothing")
        upgrader = Upgrader(reactor=wire.reactor, keepalive=None, keep_request=False)
        self.root.putChild(b"page", self.page)
        self.root.putChild(b"later", self.later)
        self.root.putChild(b"stream", SSEResource(self.channels.append, upgrader=upgrader))
        self.clients: list[Client] = []

    def site(self, root: Resource | None = None, **options: Any) -> BoundedSite:
        given = {"max_body": 1000, "request_timeout": 10.0, **options}
        site = BoundedSite(root or self.root, reactor=self.wire.reactor, **given)
        site.timeOut = None
        site.log = lambda request: None  # type: ignore[method-assign]
        return site

    def connect(self, kind: Callable[..., Client] = Client, site: Site | None = None, **options: Any) -> Any:
        client = kind(self.wire, site or self.site(**options))
        self.clients.append(client)
        return client

    def end(self) -> None:
        for client in self.clients:
            if client.transport.connected:
                Client.disconnect(client, clean=False)
        assert self.wire.reactor.getDelayedCalls() == []
