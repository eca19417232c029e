"""
A server that tests control over HTTP, and that records its requests.

Its resources are::

    GET  /                       an empty page
    GET  /streams/KIND/NAME      a stream; KIND selects the options, NAME belongs to one test; with "?hello=1"
                                 it begins with an event, for a page that reads only the first
    GET  /visits/KIND/NAME       every request for that stream so far, as JSON
    POST /calls/KIND/NAME        calls methods of the stream's open channels

It listens on three ports, which are three origins: its own, a friend's, whose pages may read some of its
streams, and a stranger's, whose pages may not. With a certificate file it also listens with TLS.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer, endpoints, task
from twisted.web import resource, server, static
from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET

from tests.browser.remote import BURST
from txsse import SSEChannel, SSEResource, StreamRequest, Upgrader

PAGE = b'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>A page</title>'


@dataclass
class Person:
    """
    A value to send as XML.
    """

    Name: str
    Age: int


class Streams(SSEResource):
    """
    All streams of one kind.

    :param reactor: the clock.
    :param upgrader: creates the channels.
    :param handler: serves the channels; ``None`` if the tests' calls do.
    """

    def __init__(
        self, reactor: Any, upgrader: Upgrader, handler: Callable[[SSEChannel], Any] | None = None
    ) -> None:
        super().__init__(handler, upgrader=upgrader)
        self.visits: dict[bytes, list[dict[str, Any]]] = defaultdict(list)
        self.open: dict[bytes, list[tuple[SSEChannel, dict[str, Any]]]] = defaultdict(list)
        self.done: set[bytes] = set()
        self._reactor = reactor

    def render(self, request: Request) -> int:
        """
        Record a request, and answer it.
        """
        self.visits[_name(request)].append(
            {
                "method": request.method.decode(),
                "protocol": request.clientproto.decode(),
                "connection": request.getClientAddress().port,
                "last_event_id": None,
                "cookie": request.getHeader("Cookie"),
                "time": self._reactor.seconds(),
                "closing": None,
                "reason": None,
            }
        )
        if _name(request) in self.done:
            request.setResponseCode(204)
            request.finish()
            return NOT_DONE_YET
        return super().render(request)

    def channel_opened(self, channel: SSEChannel) -> Any:
        """
        Record the request's last event id, and later why its channel closed.
        """
        name = _name(channel.request)
        visit = self.visits[name][-1]
        visit["last_event_id"] = channel.last_event_id
        self.open[name].append((channel, visit))

        def closed(reason: Any) -> None:
            self.open[name].remove((channel, visit))
            visit["reason"] = reason.name

        channel.when_closed().addCallback(closed)
        if b"hello" in channel.request.args:
            channel.send("hello")
        return super().channel_opened(channel)

    def call(self, name: bytes, method: str, *arguments: Any, **options: Any) -> None:
        """
        Call a method of each open channel, or one of these: ``send_person``; ``lose``, which cuts the
        connection; ``finish``, which ends the stream and answers the next request with 204.
        """
        for channel, visit in self.open[name].copy():
            if method in ("close", "finish", "lose"):
                visit["closing"] = self._reactor.seconds()
            if method == "send_person":
                channel.send_xml(Person(*arguments), **options)
            elif method == "lose":
                original: Any = channel.request.original
                original.channel.transport.abortConnection()
            elif method == "finish":
                self.done.add(name)
                channel.close()
            else:
                getattr(channel, method)(*arguments, **options)


class Visits(resource.Resource):
    """
    The requests for a stream.
    """

    isLeaf = True

    def __init__(self, kinds: dict[bytes, Streams]) -> None:
        super().__init__()
        self._kinds = kinds

    def render_GET(self, request: Request) -> bytes:
        """
        Return the requests as JSON.
        """
        return json.dumps(self._kinds[request.postpath[0]].visits[_name(request)]).encode()  # type: ignore[attr-defined]


class Calls(resource.Resource):
    """
    Makes the tests' calls, all in one turn of the reactor.
    """

    isLeaf = True

    def __init__(self, kinds: dict[bytes, Streams]) -> None:
        super().__init__()
        self._kinds = kinds

    def render_POST(self, request: Request) -> bytes:
        """
        Make the calls.
        """
        for method, arguments, options in json.load(request.content):  # type: ignore[arg-type]
            self._kinds[request.postpath[0]].call(_name(request), method, *arguments, **options)  # type: ignore[attr-defined]
        return b""


def _name(request: Request | StreamRequest) -> bytes:
    return request.path.rpartition(b"/")[2]


def burst(channel: SSEChannel) -> None:
    """
    Send many events, and close the channel at once. A client that reconnects receives nothing.
    """
    if channel.last_event_id:
        return
    channel.send("x" * 1_000_000, id="0")
    for number in range(1, BURST + 1):
        channel.send(f"event {number} of {BURST}", id=str(number))
    channel.close()


async def main(reactor: Any, certificate: str | None = None) -> None:
    """
    Listen, and print the origins.
    """
    root = resource.Resource()
    site = server.Site(root)
    descriptions = ["tcp:0:interface=127.0.0.1"] * 3
    if certificate is not None:
        descriptions.append(f"ssl:0:interface=127.0.0.1:privateKey={certificate}")
    ports = [
        await endpoints.serverFromString(reactor, description).listen(site) for description in descriptions
    ]
    origins = [f"http://127.0.0.1:{port.getHost().port}" for port in ports[:3]]
    origins += [f"https://127.0.0.1:{port.getHost().port}" for port in ports[3:]]
    friends = [origins[1]]
    kinds = {
        b"plain": Streams(reactor, Upgrader()),
        b"quick": Streams(reactor, Upgrader(retry=0.2)),
        b"slow": Streams(reactor, Upgrader(retry=1.0)),
        b"burst": Streams(reactor, Upgrader(retry=0.2), burst),
        b"shared": Streams(reactor, Upgrader(allow_origins=friends)),
        b"credentials": Streams(reactor, Upgrader(allow_origins=friends, allow_credentials=True)),
        b"public": Streams(reactor, Upgrader(allow_origins=["*"])),
    }
    streams = resource.Resource()
    for kind, resource_of_kind in kinds.items():
        streams.putChild(kind, resource_of_kind)
    root.putChild(b"", static.Data(PAGE, "text/html"))
    root.putChild(b"streams", streams)
    root.putChild(b"visits", Visits(kinds))
    root.putChild(b"calls", Calls(kinds))
    print(f"Serving {' '.join(origins)}", flush=True)
    await defer.Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
