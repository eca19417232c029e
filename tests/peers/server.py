"""
A server that plays the scripts.

Its resources are::

    GET  /                          an empty page
    GET  /record.mjs                the module with which a page takes notes
    GET  /run/TOKEN/NAME/...        the script of this name, from its beginning for each new token
    POST /seen/TOKEN/NAME           makes the script continue to the cut of its connection
    GET  /visits/TOKEN/NAME         the requests for the script so far, as JSON

It runs in its own process, because calls to WebDriver block.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import defer, endpoints, task
from twisted.web import resource, server, static
from twisted.web.server import Request

from tests.peers.scripts import SCRIPTS
from txsse.testing import CUT, Reply, ScriptedResource, Step

PAGE = b'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>A page</title>'


class Run(resource.Resource):
    """
    The scripts that one client has requested.

    :ivar seen: the scripts that may continue to the cut of their connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes] = set()

    def getChild(self, path: bytes, request: Request) -> resource.Resource:
        """
        Start a script at its first request.
        """
        replies = SCRIPTS[path.decode()].replies
        played = ScriptedResource(replace(each, steps=self._steps(each, path)) for each in replies)
        self.putChild(path, played)
        return played

    def _steps(self, reply: Reply, path: bytes) -> Iterator[Step]:
        for step in reply.steps:
            while step is CUT and path not in self.seen:
                yield 0.005
            yield step


class Runs(resource.Resource):
    """
    The runs of all clients.
    """

    def __init__(self) -> None:
        super().__init__()

    def getChild(self, path: bytes, request: Request) -> resource.Resource:
        """
        Add a client.
        """
        run = Run()
        self.putChild(path, run)
        return run


class Seen(resource.Resource):
    """
    Receives reports that a client has shown an event.
    """

    isLeaf = True

    def __init__(self, runs: Runs) -> None:
        super().__init__()
        self._runs = runs

    def render_POST(self, request: Request) -> bytes:
        """
        Let the client's script continue.
        """
        assert request.postpath is not None
        token, name = request.postpath[:2]
        self._runs.children[token].seen.add(name)
        return b""


class Visits(resource.Resource):
    """
    The requests of a client for a script.
    """

    isLeaf = True

    def __init__(self, runs: Runs) -> None:
        super().__init__()
        self._runs = runs

    def render_GET(self, request: Request) -> bytes:
        """
        Return the requests as JSON.
        """
        assert request.postpath is not None
        token, name = request.postpath
        played: Any = self._runs.children[token].children[name]
        return json.dumps([{"path": each.path, "headers": each.headers} for each in played.visits]).encode()


async def main(reactor: Any) -> None:
    """
    Listen, and print the origin.
    """
    runs = Runs()
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE, "text/html"))
    root.putChild(
        b"record.mjs", static.Data(Path(__file__).with_name("record.mjs").read_bytes(), "text/javascript")
    )
    root.putChild(b"run", runs)
    root.putChild(b"seen", Seen(runs))
    root.putChild(b"visits", Visits(runs))
    port = await endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(server.Site(root))
    print(f"Serving http://127.0.0.1:{port.getHost().port}", flush=True)
    await defer.Deferred()


if __name__ == "__main__":
    task.react(main)
