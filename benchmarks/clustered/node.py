"""
A node of the cluster: a process with a hub.
"""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogBeginner
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site

from clustered.agreed import KEY
from txsse import Hub, JournalFailed, Upgrader
from txsse.journal.redis import RedisJournal

__all__ = ["Node"]

reactor: Any = global_reactor

# The hub's metrics that the node reports.
_METRICS = ("channels", "replaying", "published", "delivered", "replayed", "slow_replays", "gaps", "failures")


class Node(LineReceiver):
    """
    A hub that is controlled by stdin. It publishes the updates of each line in one turn of the reactor, and
    writes the results to stdout.

    :param url: the URL of Redis.
    :param max_count: how many updates the journal holds.
    """

    delimiter = b"\n"
    MAX_LENGTH = 2**26

    def __init__(self, url: str, max_count: int) -> None:
        self.logged: Counter[str] = Counter()
        globalLogBeginner.beginLoggingTo(
            [cast(ILogObserver, self._logged)], discardBuffer=True, redirectStandardIO=False
        )
        journal = RedisJournal(url, key=KEY, max_count=max_count, max_bytes=2**34, max_age=None)
        self.hub = Hub(journal=journal, upgrader=Upgrader(keepalive=5.0))
        self._results: list[tuple[int, str | None, bool]] = []

    def _logged(self, event: LogEvent) -> None:
        if event["log_level"].name in ("error", "critical"):
            text = re.sub(r"<Request.*?>", "a request", formatEvent(event) or "")
            self.logged[text[:100]] += 1

    def connectionMade(self) -> None:
        root = Resource()
        root.putChild(b"all", self.hub.resource("*"))
        root.putChild(b"some", self.hub.resource(lambda request: request.args[b"t"][0].decode()))
        site = Site(root)
        site.log = lambda request: None  # type: ignore[method-assign]
        port: Any = reactor.listenTCP(0, site, backlog=4096, interface="127.0.0.1")
        # Small, so that a client that does not read soon counts as slow.
        port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        self.hub.start().addCallback(lambda _: self._answer({"port": port.getHost().port}))

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        asked = json.loads(line)
        if asked == "how":
            self._answer({"how": {**self._metrics(), "logged": dict(self.logged)}})
            return
        for number, id, topics, data in asked:
            published = self.hub.publish(topics, data, id=id)
            published.addCallbacks(
                self._acknowledged, self._failed, callbackArgs=(number,), errbackArgs=(number,)
            )

    def _metrics(self) -> dict[str, int]:
        metrics = self.hub.metrics()
        return {name: getattr(metrics, name) for name in _METRICS}

    def _acknowledged(self, id: str, number: int) -> None:
        self._result(number, id, False)

    def _failed(self, failure: Failure, number: int) -> None:
        failure.trap(JournalFailed)
        self._result(number, None, cast(JournalFailed, failure.value).uncertain)

    def _result(self, number: int, id: str | None, uncertain: bool) -> None:
        if not self._results:
            reactor.callLater(0, self._send_results)
        self._results.append((number, id, uncertain))

    def _send_results(self) -> None:
        results, self._results = self._results, []
        self._answer({"results": results})

    def _answer(self, message: dict[str, Any]) -> None:
        self.sendLine(json.dumps(message).encode())  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: object = None) -> None:
        # The parent process has exited, or asks this one to exit.
        self.hub.stop(deadline=2).addBoth(lambda _: reactor.callFromThread(reactor.stop))
